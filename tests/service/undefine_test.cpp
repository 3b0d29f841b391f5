// SPDX-License-Identifier: LGPL-2.1-or-later
// Undefining: its questions in their order, what it keeps and removes, whole across crashes; and what nobody has any
// more.
#include "definitions.hpp"

namespace virtbus::tests {
namespace {

using Undefining = Definitions;

std::string record(const std::string& name) {
    return "<domainsnapshot><name>" + name + "</name><state>shutoff</state></domainsnapshot>";
}

TEST_F(Undefining, UndefineRemovesTheDefinitionAndItsAutostartLink) {
    boot();
    define(xml("web"));
    finish(get("web")->set_autostart(true, caller));
    const auto link = root + "/config/autostart/" + uuid_of("web") + ".xml";
    EXPECT_TRUE(exists(link));
    undefine("web");
    EXPECT_FALSE(exists(definition_path("web")));
    EXPECT_FALSE(exists(link));
    EXPECT_EQ(audience.told.back(), "removed web");
    EXPECT_REFUSED(get("web"), Code::no_such_domain, "");
}

TEST_F(Undefining, UndefineAsksItsQuestionsInOrderBeforeItChangesAnything) {
    boot();
    define(xml("web"));
    write(state("snapshots", "web", "/s1.xml"), record("s1"));
    write(state("snapshots", "web", "/s2.xml"), record("s2"));
    write(state("checkpoints", "web", "/c1.xml"), "x");
    write(state("save", "web", ".save"), "x");
    write(state("nvram", "web", "_VARS.fd"), "x");
    write(state("tpm", "web", "/tpm2/state"), "x");
    UndefineOptions options{.nvram = true, .keep_nvram = true};
    EXPECT_REFUSED(undefine("web", options), Code::conflicting_options, "keep-nvram");
    options = {.tpm = true, .keep_tpm = true};
    EXPECT_REFUSED(undefine("web", options), Code::conflicting_options, "keep-tpm");
    options = {};
    EXPECT_REFUSED(undefine("web", options), Code::has_snapshots, "2 snapshots");
    options.snapshots_metadata = true;
    EXPECT_REFUSED(undefine("web", options), Code::has_checkpoints, "1 checkpoint;");
    options.checkpoints_metadata = true;
    EXPECT_REFUSED(undefine("web", options), Code::has_managed_save, "managed-save");
    options.managed_save = true;
    EXPECT_REFUSED(undefine("web", options), Code::has_nvram, "_VARS.fd");
    EXPECT_TRUE(exists(definition_path("web")));
    EXPECT_TRUE(exists(state("snapshots", "web", "/s1.xml")));
    options.nvram = true;
    undefine("web", options);
    for (const auto& path : {definition_path("web"), state("snapshots", "web", ""), state("checkpoints", "web", ""),
                             state("save", "web", ".save"), state("nvram", "web", "_VARS.fd"), state("tpm", "web", ""),
                             state("undefining", "web", ".journal")})
        EXPECT_FALSE(exists(path)) << path;
}

TEST_F(Undefining, UndefineKeepsWhatItIsToldToKeep) {
    boot();
    define(xml("web"));
    write(state("nvram", "web", "_VARS.qcow2"), "x");
    write(state("tpm", "web", "/state"), "x");
    undefine("web", {.keep_nvram = true, .keep_tpm = true});
    EXPECT_TRUE(exists(state("nvram", "web", "_VARS.qcow2")));
    EXPECT_TRUE(exists(state("tpm", "web", "/state")));

    const auto persistent =
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0' persistent_state='yes'/></tpm>";
    define(xml("vault", "", "", persistent));
    write(state("tpm", "vault", "/state"), "x");
    undefine("vault");
    EXPECT_TRUE(exists(state("tpm", "vault", "/state")));
    define(xml("vault", "", "", persistent));
    undefine("vault", {.tpm = true});
    EXPECT_FALSE(exists(state("tpm", "vault", "")));
}

TEST_F(Undefining, AVariableStoreThatTheDefinitionNamesIsAskedAboutToo) {
    boot();
    const auto store = root + "/my_VARS.fd";
    auto text = xml("web");
    text = with_uuid(text, "<type arch='x86_64'>hvm</type>",
                     "<type arch='x86_64'>hvm</type><loader readonly='yes' type='pflash'>/code.fd</loader><nvram>" +
                         store + "</nvram>");
    define(text);
    EXPECT_EQ(get("web")->view().firmware_vars, store);
    write(store, "x");
    EXPECT_REFUSED(undefine("web"), Code::has_nvram, store);
    undefine("web", {.keep_nvram = true});
    EXPECT_TRUE(exists(store));
    define(text);
    undefine("web", {.nvram = true});
    EXPECT_FALSE(exists(store));
    define(text);
    undefine("web");
}

TEST_F(Undefining, UndefineOfARunningDomainMakesItTransient) {
    boot();
    const auto domain = running("web");
    write(state("nvram", "web", "_VARS.fd"), "x");
    write(state("snapshots", "web", "/s1.xml"), record("s1"));
    EXPECT_REFUSED(undefine("web"), Code::has_nvram, "");
    undefine("web", {.nvram = true});
    EXPECT_FALSE(domain->view().persistent);
    EXPECT_EQ(domain->view().state, State::running);
    EXPECT_TRUE(exists(state("nvram", "web", "_VARS.fd")));
    EXPECT_REFUSED(undefine("web"), Code::invalid_state, "transient");
    EXPECT_REFUSED(finish(domain->set_autostart(true, caller)), Code::invalid_state, "transient");
    boot();
    EXPECT_FALSE(get("web")->view().persistent);
    finish(get("web")->stop({}, caller));
    EXPECT_FALSE(exists(state("nvram", "web", "_VARS.fd")));
    EXPECT_FALSE(exists(state("snapshots", "web", "")));
    EXPECT_EQ(room->domains().size(), 0u);
}

TEST_F(Undefining, TheEndOfATransientDomainLeavesItsVariableStore) {
    boot();
    run(room->domains().create(xml("tmp"), {}, caller));
    write(state("nvram", "tmp", "_VARS.fd"), "x");
    write(state("tpm", "tmp", "/state"), "x");
    write(state("checkpoints", "tmp", "/c"), "x");
    finish(get("tmp")->stop({}, caller));
    EXPECT_TRUE(exists(state("nvram", "tmp", "_VARS.fd")));
    EXPECT_FALSE(exists(state("tpm", "tmp", "")));
    EXPECT_FALSE(exists(state("checkpoints", "tmp", "")));
}

TEST_F(Undefining, AStoreThatIsPromisedToTheEndGoesOnlyWithTheDefinition) {
    boot();
    running("web");
    write(state("nvram", "web", "_VARS.fd"), "x");
    write(state("save", "web", ".save"), "x");
    undefine("web", {.managed_save = true, .nvram = true});
    EXPECT_FALSE(exists(state("save", "web", ".save")));
    define(xml("web"));  // it is wanted again
    finish(get("web")->stop({}, caller));
    EXPECT_TRUE(exists(state("nvram", "web", "_VARS.fd")));
}

/// The daemon dies at each step of it in turn: the next one finds it undone or done, never half.
TEST_F(Undefining, AnUndefineIsWholeOrNotAtAllWhereverTheDaemonDies) {
    for (int steps = 0;; ++steps) {
        boot();
        define(xml("web"));
        finish(get("web")->set_autostart(true, caller));
        write(state("snapshots", "web", "/s1.xml"), record("s1"));
        write(state("save", "web", ".save"), "x");
        write(state("nvram", "web", "_VARS.fd"), "x");
        files.steps_left = steps;
        bool done = true;
        try {
            undefine("web", {.managed_save = true, .snapshots_metadata = true, .nvram = true});
        } catch (const Error&) {
            done = false;
        }
        room.reset();
        files.steps_left = -1;
        boot();
        const bool there = room->domains().find(uuid_of("web")) != nullptr;
        for (const auto& path : {state("snapshots", "web", "/s1.xml"), state("save", "web", ".save"),
                                 state("nvram", "web", "_VARS.fd"), definition_path("web")})
            EXPECT_EQ(exists(path), there) << path << " after " << steps << " steps";
        EXPECT_FALSE(exists(state("undefining", "web", ".journal")));
        if (there) {
            EXPECT_TRUE(get("web")->view().autostart) << steps;
            undefine("web", {.managed_save = true, .snapshots_metadata = true, .nvram = true});
        }
        if (done) {
            EXPECT_GT(steps, 3);
            break;
        }
        ASSERT_LT(steps, 30);
    }
}

// ---- variable stores that nobody has

class Orphans : public Definitions {
protected:
    static std::string with_store(const std::string& name, const std::string& store) {
        return with_uuid(xml(name), "<type arch='x86_64'>hvm</type>",
                         "<type arch='x86_64'>hvm</type><loader readonly='yes' type='pflash'>/code.fd</loader><nvram>" +
                             store + "</nvram>");
    }
    std::vector<std::string> listed() {
        std::vector<std::string> lines;
        for (const auto& store : run(room->domains().orphaned_nvram()))
            lines.push_back(store.path.substr(store.path.rfind('/') + 1) + " of '" + store.domain + "' " +
                            std::to_string(store.size));
        return lines;
    }
    void remove(const std::string& path) { run(room->domains().delete_orphaned_nvram(path)); }
    std::string folder() const { return root + "/state/nvram"; }
};

TEST_F(Orphans, WhatATransientDomainLeavesIsListedWithItsNameAndCanBeDeleted) {
    boot();
    const auto store = state("nvram", "tmp", "_VARS.fd");
    run(room->domains().create(with_store("tmp", store), {}, caller));
    write(store, "four");
    EXPECT_TRUE(listed().empty()) << "it runs";
    finish(get("tmp")->stop({}, caller));
    boot();  // what is on record survives the daemon too
    EXPECT_EQ(listed(), std::vector<std::string>{uuid_of("tmp") + "_VARS.fd of 'tmp' 4"});
    remove(store);
    EXPECT_FALSE(exists(store));
    EXPECT_TRUE(std::filesystem::is_empty(folder())) << "the record goes too";
}

TEST_F(Orphans, WhateverADomainHasIsNone) {
    boot();
    write(state("nvram", "web", "_VARS.qcow2"), "x");  // by its UUID
    write(folder() + "/by-name_VARS.fd", "x");         // by its definition
    write(folder() + "/live_VARS.fd", "x");            // by its run
    write(folder() + "/nobody_VARS.fd", "xx");
    define(xml("web"));
    define(with_store("named", folder() + "/../nvram/by-name_VARS.fd"));
    define(with_store("both", folder() + "/live_VARS.fd"));
    finish(get("both")->start({}, caller));
    define(with_store("both", folder() + "/next_VARS.fd"));
    write(folder() + "/next_VARS.fd", "x");
    const std::vector<std::string> one{"nobody_VARS.fd of '' 2"};
    EXPECT_EQ(listed(), one);
    EXPECT_REFUSED(remove(folder() + "/live_VARS.fd"), Code::invalid_args, "domain 'both'");
    EXPECT_REFUSED(remove(folder() + "/next_VARS.fd"), Code::invalid_args, "domain 'both'");
    // One that was claimed after it had been seen.
    define(with_store("claims", folder() + "/nobody_VARS.fd"));
    EXPECT_REFUSED(remove(folder() + "/nobody_VARS.fd"), Code::invalid_args, "domain 'claims'");
    EXPECT_TRUE(exists(folder() + "/nobody_VARS.fd"));
}

TEST_F(Orphans, ADefinitionThatCannotBeReadKeepsWhatItMayName) {
    write(root + "/config/domain/" + uuid_of("broken") + ".xml",
          "<domain><nvram>" + folder() + "/mine_VARS.fd</nvram>");
    write(folder() + "/mine_VARS.fd", "x");
    write(state("nvram", "broken", "_VARS.fd"), "x");
    boot();
    EXPECT_TRUE(listed().empty());
}

TEST_F(Orphans, NothingElseIsDeleted) {
    boot();
    write(root + "/state/secret", "x");
    write(folder() + "/a_VARS.fd", "x");
    std::filesystem::create_symlink(root + "/state/secret", folder() + "/link_VARS.fd");
    std::filesystem::create_directory(folder() + "/folder_VARS.fd");
    write(folder() + "/\xff\xfe_VARS.fd", "x");
    EXPECT_EQ(listed(), std::vector<std::string>{"a_VARS.fd of '' 1"});
    for (const auto& path :
         {root + "/state/secret", folder() + "/../secret", folder() + "/link_VARS.fd", folder() + "/folder_VARS.fd",
          folder() + "/./a_VARS.fd", folder() + "/gone", folder() + "/", folder(), std::string{},
          std::string{"a_VARS.fd"}, folder() + "/\xff\xfe_VARS.fd", folder() + "/" + std::string(5000, 'a')})
        EXPECT_REFUSED(remove(path), Code::invalid_args, "variable store");
    EXPECT_TRUE(exists(root + "/state/secret"));
    EXPECT_TRUE(exists(folder() + "/a_VARS.fd"));
    // A record that is no name is none.
    write(folder() + "/a_VARS.fd.domain", "\xff\xff");
    EXPECT_EQ(listed(), std::vector<std::string>{"a_VARS.fd of '' 1"});
    write(folder() + "/a_VARS.fd.domain", std::string(1 << 20, 'a'));
    EXPECT_EQ(listed(), std::vector<std::string>{"a_VARS.fd of '' 1"});
}

TEST_F(Orphans, AFailedStartLeavesNoRecord) {
    boot();
    const auto text = with_uuid(xml("web", "fail-start='no'"), "<type arch='x86_64'>hvm</type>",
                                "<type arch='x86_64'>hvm</type><loader readonly='yes' type='pflash'>/code.fd</loader>"
                                "<nvram>" +
                                    state("nvram", "web", "_VARS.fd") + "</nvram>");
    const auto domain = define(text);
    EXPECT_REFUSED(finish(domain->start({}, caller)), Code::hypervisor_failed, "");
    EXPECT_TRUE(std::filesystem::is_empty(folder()));
}

}  // namespace
}  // namespace virtbus::tests
