// SPDX-License-Identifier: LGPL-2.1-or-later
// Definitions: making, changing and renaming them, with every guard and its border, on full disks and across crashes.
#include "definitions.hpp"

namespace virtbus::tests {
namespace {

TEST_F(Definitions, WhatIsStoredIsWhatXmlShowsAndWhatTheNextDaemonReads) {
    boot();
    const auto domain = define(xml("web", "", "<title>T</title><description>D</description>"));
    EXPECT_EQ(domain->xml({.inactive = true, .secure = true}), read(definition_path("web")));
    EXPECT_EQ(domain->view().title, "T");
    EXPECT_EQ(domain->view().memory, 64u << 20);
    EXPECT_EQ(domain->view().vcpus, 2u);
    EXPECT_EQ(domain->view().driver, "test");
    const auto view = domain->view();
    boot();
    auto again = get("web")->view();
    again.state_changed = view.state_changed;
    EXPECT_TRUE(again == view);
}

TEST_F(Definitions, DomainsAreFoundByNameAndByAnySpellingOfTheUuid) {
    boot();
    const auto domain = define(xml("web"));
    auto upper = uuid_of("web");
    for (auto& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    std::erase(upper, '-');
    EXPECT_EQ(get("web"), domain);
    EXPECT_EQ(get(uuid_of("web")), domain);
    EXPECT_EQ(get(upper), domain);
    EXPECT_EQ(room->domains().find(upper), nullptr);
    EXPECT_REFUSED(get("nobody"), Code::no_such_domain, "'nobody'");
}

TEST_F(Definitions, TheListIsInUuidOrderAndCanBeReadInPages) {
    boot();
    for (const auto* name : {"a", "b", "c", "d"}) define(xml(name));
    const auto all = room->domains().list();
    ASSERT_EQ(all.size(), 4u);
    std::vector<std::string> paged;
    for (std::string after;;) {
        const auto page = room->domains().list(after, 3);
        if (page.empty()) break;
        for (const auto& domain : page) paged.push_back(after = domain->view().uuid);
    }
    ASSERT_EQ(paged.size(), 4u);
    EXPECT_TRUE(std::is_sorted(paged.begin(), paged.end()));
    EXPECT_EQ(paged[2], all[2]->view().uuid);
}

TEST_F(Definitions, NamesThatCannotBeAreRefused) {
    boot();
    for (const std::string name : {"", "a/b", ".", "..", "a&#10;b"})
        EXPECT_REFUSED(define(with_uuid(xml("x"), "<name>x<", "<name>" + name + "<")), Code::invalid_xml, "");
    EXPECT_REFUSED(define(with_uuid(xml("x"), "<name>x<", "<name>" + std::string(256, 'n') + "<")), Code::invalid_xml,
                   "255");
    define(with_uuid(xml("x"), "<name>x<", "<name>" + std::string(255, 'n') + "<"));
    EXPECT_EQ(room->domains().size(), 1u);
    EXPECT_REFUSED(define("<domain type='test'><name>y</name>"), Code::invalid_xml, "");
    EXPECT_REFUSED(define(with_uuid(xml("y"), "type='test'", "type='kvm'")), Code::unsupported, "test");
}

TEST_F(Definitions, ANameOrUuidBelongsToOneDomain) {
    boot();
    define(xml("web"));
    EXPECT_REFUSED(define(with_uuid(xml("web"), uuid_of("web"), uuid_of("other"))), Code::already_exists,
                   uuid_of("web"));
    EXPECT_REFUSED(define(with_uuid(xml("other"), uuid_of("other"), uuid_of("web"))), Code::already_exists, "'web'");
    EXPECT_REFUSED(define(with_uuid(xml("web"), "<uuid>" + uuid_of("web") + "</uuid>", "")), Code::already_exists,
                   "no UUID");
    EXPECT_REFUSED(run(room->domains().create(with_uuid(xml("web"), uuid_of("web"), uuid_of("other")), {}, caller)),
                   Code::already_exists, "web");
    EXPECT_EQ(room->domains().size(), 1u);
    const auto made = define(with_uuid(xml("new"), "<uuid>" + uuid_of("new") + "</uuid>", ""));
    EXPECT_EQ(made->view().uuid.size(), 36u);
}

TEST_F(Definitions, ManyDefinesOfOneDomainAtOnceLeaveOne) {
    boot();
    std::vector<Task<DomainPtr>> tasks;
    Scope scope;
    int done = 0, refused = 0;
    const auto one = [](World& world, Domains& domains, std::string text, Caller who, int& ok, int& no) -> Task<> {
        (void)world;
        try {
            (void)co_await domains.define(std::move(text), {}, who);
            ++ok;
        } catch (const Error& e) {
            EXPECT_EQ(e.code(), Code::already_exists);
            ++no;
        }
    };
    for (int i = 0; i < 20; ++i) {
        scope.spawn(one(*this, room->domains(), xml("web", "", "<title>" + std::to_string(i) + "</title>"), caller,
                        done, refused));
        scope.spawn(one(*this, room->domains(),
                        with_uuid(xml("web"), uuid_of("web"), uuid_of("rival" + std::to_string(i))), caller, done,
                        refused));
    }
    ASSERT_TRUE(until([&] { return done + refused == 40; }));
    EXPECT_EQ(done, 20);
    EXPECT_EQ(refused, 20);
    EXPECT_EQ(room->domains().size(), 1u);
    EXPECT_EQ(audience.count("added web"), 1u);
    EXPECT_EQ(get("web")->view().title, "19");
    EXPECT_NE(read(definition_path("web")).find("<title>19</title>"), std::string::npos);
}

TEST_F(Definitions, AFailedDefineOfANewDomainLetsTheNextOneHaveTheName) {
    boot();
    files.full = true;
    EXPECT_REFUSED(define(xml("web")), Code::no_space, "no space");
    EXPECT_REFUSED(get("web"), Code::no_such_domain, "");
    EXPECT_TRUE(audience.told.empty() || !audience.heard("added web"));
    files.full = false;
    define(xml("web"));
}

TEST_F(Definitions, OnAFullDiskTheStoredDefinitionStaysAsItWas) {
    boot();
    define(xml("web", "", "<title>old</title>"));
    const auto before = read(definition_path("web"));
    files.full = true;
    EXPECT_REFUSED(define(xml("web", "", "<title>new</title>")), Code::no_space, "");
    EXPECT_REFUSED(finish(get("web")->rename("other", caller)), Code::no_space, "");
    EXPECT_REFUSED(finish(get("web")->set_autostart(true, caller)), Code::no_space, "");
    files.full = false;
    EXPECT_EQ(read(definition_path("web")), before);
    EXPECT_EQ(get("web")->view().title, "old");
    EXPECT_FALSE(get("web")->view().autostart);
    define(xml("other"));
}

TEST_F(Definitions, ARedefineOfARunningDomainChangesWhatIsStoredOnly) {
    boot();
    const auto domain = running("web");
    define(xml("web", "", "<title>next</title>"));
    EXPECT_EQ(domain->view().title, "");
    EXPECT_TRUE(domain->view().updated);
    EXPECT_EQ(domain->xml({}).find("next"), std::string::npos);
    EXPECT_NE(domain->xml({.inactive = true}).find("next"), std::string::npos);
    boot();
    const auto again = get("web");
    EXPECT_TRUE(again->view().updated);
    finish(again->stop({}, caller));
    EXPECT_EQ(again->view().title, "next");
    EXPECT_FALSE(again->view().updated);
}

TEST_F(Definitions, ARunningTransientDomainBecomesPersistentByADefine) {
    boot();
    const auto domain = run(room->domains().create(xml("tmp"), {}, caller));
    define(xml("tmp"));
    EXPECT_TRUE(domain->view().persistent);
    finish(domain->stop({}, caller));
    EXPECT_EQ(get("tmp")->view().state, State::shutoff);
}

TEST_F(Definitions, CreateStartsADefinedDomainWithTheGivenDefinition) {
    boot();
    define(xml("web", "", "<title>stored</title>"));
    const auto domain = run(room->domains().create(xml("web", "", "<title>live</title>"), {}, caller));
    EXPECT_EQ(domain->view().title, "live");
    EXPECT_TRUE(domain->view().persistent);
    EXPECT_TRUE(domain->view().updated);
    EXPECT_REFUSED(run(room->domains().create(xml("web"), {}, caller)), Code::invalid_state, "running");
    finish(domain->stop({}, caller));
    EXPECT_EQ(domain->view().title, "stored");
}

TEST_F(Definitions, WhatIsNotUnderstoodIsKeptAndRefusedOnlyWhenAsked) {
    boot();
    const auto text = xml("web", "", "<flux capacity='1.21'/>");
    const auto check = run(room->domains().check(text, false));
    ASSERT_EQ(check.unknown.size(), 1u);
    EXPECT_NE(check.unknown[0].find("flux"), std::string::npos);
    EXPECT_NE(check.xml.find("<flux"), std::string::npos);
    EXPECT_EQ(room->domains().size(), 0u);
    EXPECT_REFUSED(run(room->domains().define(text, {.validate = true}, caller)), Code::invalid_xml, "flux");
    EXPECT_REFUSED(run(room->domains().create(text, {.start = {}, .validate = true}, caller)), Code::invalid_xml,
                   "flux");
    const auto domain = define(text);
    EXPECT_NE(domain->xml({}).find("<flux capacity="), std::string::npos);
    EXPECT_EQ(domain->unknown().size(), 1u);
}

TEST_F(Definitions, IdentifySaysWhatATextSpeaksOf) {
    boot();
    const auto said = room->domains().identify(xml("web"));
    EXPECT_EQ(said.name, "web");
    EXPECT_EQ(said.uuid, uuid_of("web"));
    EXPECT_EQ(said.driver, "test");
    EXPECT_REFUSED(room->domains().identify("<domain"), Code::invalid_xml, "");
}

TEST_F(Definitions, PasswordsAreShownToWhoMaySeeThem) {
    boot();
    const auto domain = define(xml("web", "", "", "<graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/>"));
    EXPECT_EQ(domain->xml({}).find("s3cret"), std::string::npos);
    EXPECT_NE(domain->xml({.secure = true}).find("s3cret"), std::string::npos);
    finish(domain->start({}, caller));
    EXPECT_EQ(domain->xml({}).find("s3cret"), std::string::npos);
    EXPECT_EQ(domain->xml({.migratable = true}).find("s3cret"), std::string::npos);
    EXPECT_NE(domain->xml({.secure = true}).find("s3cret"), std::string::npos);
    boot();
    EXPECT_EQ(get("web")->xml({.inactive = true}).find("s3cret"), std::string::npos);
    EXPECT_NE(get("web")->xml({.secure = true}).find("s3cret"), std::string::npos);
}

TEST_F(Definitions, DefineAndRenameAreWholeOrNotAtAllWhereverTheDaemonDies) {
    for (int steps = 0; steps < 3; ++steps) {
        boot();
        define(xml("web"));
        files.steps_left = steps;
        (void)refusal([&] { finish(get("web")->rename("shop", caller)); });
        files.steps_left = -1;
        boot();
        ASSERT_EQ(room->domains().size(), 1u);
        const auto name = room->domains().list()[0]->view().name;
        EXPECT_EQ(name, steps == 0 ? "web" : "shop");
        EXPECT_EQ(room->domains().find_by_name(name)->view().uuid, uuid_of("web"));
        EXPECT_NE(room->domains().find_by_name(name)->xml({}).find("<name>" + name + "</name>"), std::string::npos);
        undefine(name);
    }
}

// ---- rename
// --------------------------------------------------------------------------------------------------------------

TEST_F(Definitions, RenameChangesTheNameAndNothingElse) {
    boot();
    const auto domain = define(xml("web", "", "<title>T</title>"));
    auto text = read(definition_path("web"));
    finish(domain->rename("shop", caller));
    EXPECT_EQ(domain->view().name, "shop");
    EXPECT_EQ(read(definition_path("web")), with_uuid(text, "<name>web<", "<name>shop<"));
    EXPECT_EQ(get("shop"), domain);
    EXPECT_REFUSED(get("web"), Code::no_such_domain, "");
    define(with_uuid(xml("web"), uuid_of("web"), uuid_of("another")));
    EXPECT_REFUSED(finish(domain->rename("web", caller)), Code::already_exists, uuid_of("another"));
    EXPECT_REFUSED(finish(domain->rename("a/b", caller)), Code::invalid_xml, "");
    finish(domain->rename("shop", caller));
    finish(domain->start({}, caller));
    EXPECT_REFUSED(finish(domain->rename("pub", caller)), Code::invalid_state, "'rename' needs it shutoff");
    EXPECT_EQ(domain->view().name, "shop");
}

// ---- parts
// -----------------------------------------------------------------------------------------------------------------

TEST_F(Definitions, MetadataIsSetReadAndRemoved) {
    boot();
    const auto domain = define(xml("web"));
    const auto set = [&](const std::string& kind, const std::string& uri, const std::string& key,
                         const std::string& value, ChangeScope scope = ChangeScope::current) {
        finish(domain->set_metadata(kind, uri, key, value, scope, caller));
    };
    set("title", "", "", "A title");
    EXPECT_EQ(domain->view().title, "A title");
    EXPECT_EQ(domain->metadata("title", "", ChangeScope::current), "A title");
    EXPECT_REFUSED(set("title", "", "", "two\nlines"), Code::invalid_args, "one line");
    set("description", "", "", "two\nlines");
    set("element", "urn:app", "app", "<note who='me'><part/></note>");
    EXPECT_EQ(domain->metadata("element", "urn:app", ChangeScope::current),
              R"(<app:note xmlns:app="urn:app" who="me"><part/></app:note>)");
    set("element", "urn:other", "", "<o:x xmlns:o='urn:other'/>");
    set("element", "urn:app", "app", "<note/>");
    EXPECT_EQ(domain->metadata("element", "urn:app", ChangeScope::current), R"(<app:note xmlns:app="urn:app"/>)");
    EXPECT_FALSE(domain->metadata("element", "urn:other", ChangeScope::current).empty());
    set("element", "urn:app", "app", "");
    EXPECT_EQ(domain->metadata("element", "urn:app", ChangeScope::current), "");
    const auto before = read(definition_path("web"));
    EXPECT_REFUSED(set("element", "urn:x", "x", "<a></metadata><devices/><metadata></a>"), Code::invalid_xml, "");
    EXPECT_REFUSED(set("element", "urn:x", "x", "<a/></metadata><name>evil</name><metadata><b/>"), Code::invalid_xml,
                   "");
    EXPECT_REFUSED(set("element", "urn:x", "x", "<a/><b/>"), Code::invalid_xml, "");
    EXPECT_REFUSED(set("element", "urn:x", "x", "text"), Code::invalid_xml, "");
    EXPECT_REFUSED(set("element", "urn:x", "x y", "<a/>"), Code::invalid_args, "prefix");
    EXPECT_REFUSED(set("element", "", "x", "<a/>"), Code::invalid_args, "uri");
    EXPECT_REFUSED(set("element", "urn:x", "x", "<a xmlns='urn:y'/>"), Code::invalid_xml, "urn:y");
    EXPECT_REFUSED(set("colour", "", "", "red"), Code::invalid_args, "colour");
    EXPECT_EQ(read(definition_path("web")), before);
    EXPECT_REFUSED(set("title", "", "", "x", ChangeScope::live), Code::invalid_state, "shutoff");
}

TEST_F(Definitions, MetadataOfARunningDomainCanChangeLiveStoredOrBoth) {
    boot();
    const auto domain = running("web");
    const auto set = [&](const std::string& value, ChangeScope scope) {
        finish(domain->set_metadata("title", "", "", value, scope, caller));
    };
    const auto stored = [&] { return domain->metadata("title", "", ChangeScope::persistent); };
    set("live", ChangeScope::current);
    EXPECT_EQ(domain->view().title, "live");
    EXPECT_EQ(stored(), "");
    EXPECT_TRUE(domain->view().updated);
    set("stored", ChangeScope::persistent);
    EXPECT_EQ(domain->view().title, "live");
    EXPECT_EQ(stored(), "stored");
    set("both", ChangeScope::both);
    EXPECT_EQ(domain->view().title, "both");
    EXPECT_EQ(stored(), "both");
    EXPECT_FALSE(domain->view().updated);
    boot();
    EXPECT_EQ(get("web")->view().title, "both");
}

TEST_F(Definitions, MemoryAndVcpusOfTheDefinition) {
    boot();
    const auto domain = define(xml("web"));
    constexpr std::uint64_t mib = 1u << 20;
    const auto stored = ChangeScope::persistent;
    EXPECT_REFUSED(finish(domain->set_memory(65 * mib, stored, false, caller)), Code::invalid_args, "at most");
    finish(domain->set_memory(64 * mib, stored, false, caller));
    finish(domain->set_memory(32 * mib + 1, stored, false, caller));
    EXPECT_EQ(domain->view().memory, 32 * mib + 1024);
    EXPECT_EQ(domain->view().max_memory, 64 * mib);
    finish(domain->set_memory(16 * mib, stored, true, caller));
    EXPECT_EQ(domain->view().memory, 16 * mib);
    EXPECT_REFUSED(finish(domain->set_memory(0, stored, true, caller)), Code::invalid_args, "0 bytes");
    EXPECT_REFUSED(finish(domain->set_vcpus(3, stored, false, caller)), Code::invalid_args, "at most 2");
    finish(domain->set_vcpus(1, stored, false, caller));
    EXPECT_EQ(domain->view().vcpus, 1u);
    EXPECT_EQ(domain->view().max_vcpus, 2u);
    finish(domain->set_vcpus(8, stored, true, caller));
    EXPECT_EQ(domain->view().max_vcpus, 8u);
    EXPECT_REFUSED(finish(domain->set_vcpus(0, stored, true, caller)), Code::invalid_args, "0");
    finish(domain->start({}, caller));
    EXPECT_REFUSED(finish(domain->set_vcpus(2, ChangeScope::current, true, caller)), Code::unsupported, "'persistent'");
    EXPECT_REFUSED(finish(domain->set_memory(mib, ChangeScope::both, true, caller)), Code::unsupported, "memory");
    EXPECT_EQ(domain->view().memory, 16 * mib);
}

TEST_F(Definitions, AutostartIsALinkThatSurvives) {
    boot();
    const auto domain = define(xml("web"));
    finish(domain->set_autostart(true, caller));
    EXPECT_EQ(std::filesystem::read_symlink(root + "/config/autostart/" + uuid_of("web") + ".xml"),
              definition_path("web"));
    boot();
    EXPECT_TRUE(get("web")->view().autostart);
    finish(get("web")->set_autostart(false, caller));
    boot();
    EXPECT_FALSE(get("web")->view().autostart);
}

TEST_F(Definitions, AManagedSaveImageIsNotBootedOver) {
    boot();
    define(xml("web"));
    write(state("save", "web", ".save"), std::string(5000, 'x'));
    boot();
    EXPECT_TRUE(get("web")->view().has_managed_save);
    EXPECT_REFUSED(finish(get("web")->start({}, caller)), Code::unsupported, "written by something else");
    EXPECT_TRUE(exists(state("save", "web", ".save")));
    finish(get("web")->start({.force_boot = true}, caller));
    EXPECT_FALSE(exists(state("save", "web", ".save")));
    EXPECT_FALSE(get("web")->view().has_managed_save);
}

}  // namespace
}  // namespace virtbus::tests
