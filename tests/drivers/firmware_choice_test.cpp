// SPDX-License-Identifier: LGPL-2.1-or-later
// Which firmware a definition gets, and which definitions ask for none that there could be.
#include <gtest/gtest.h>

#include "tests/drivers/domain_bed.hpp"

namespace virtbus::qemu {
namespace {

using namespace virtbus::tests;

Os uefi(const std::string& more = "") {
    auto config =
        xml::parse_domain(fmt::format("<domain type='qemu'><name>n</name><os firmware='efi'><type arch='x86_64' "
                                      "machine='pc-q35-7.2'>hvm</type>{}</os></domain>",
                                      more))
            .config;
    return config.os;
}

TEST(FirmwareChoice, FollowsTheFeaturesAskedFor) {
    const auto& all = known_surroundings().firmwares;
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(choose_firmware(all, uefi(), nullptr)->descriptor, "40.json");
    const auto plain = uefi("<firmware><feature enabled='no' name='secure-boot'/></firmware>");
    EXPECT_EQ(choose_firmware(all, plain, nullptr)->descriptor, "60.json");
    EXPECT_EQ(choose_firmware(all, uefi("<loader secure='no'/>"), nullptr)->descriptor, "60.json");
    Features no_smm;
    no_smm.smm.emplace().state = false;
    EXPECT_EQ(choose_firmware(all, uefi(), &no_smm)->descriptor, "60.json");
    auto other = uefi();
    other.machine = "microvm";
    EXPECT_EQ(choose_firmware(all, other, nullptr), nullptr);
}

TEST(FirmwareChoice, RubbishIsNoDescriptor) {
    for (const char* text : {"", "[]", "{", "{}", R"({"mapping":3})",
                             R"({"mapping":{"device":"flash","executable":{"filename":"relative"}}})",
                             R"({"mapping":{"device":"flash","executable":{"filename":"/a"}}})"})
        EXPECT_EQ(parse_firmware("x.json", text).executable, "") << text;
}

TEST(FirmwareChoice, TellsWhatCameClosest) {
    const auto& all = known_surroundings().firmwares;
    const auto os = uefi(
        "<firmware><feature enabled='no' name='secure-boot'/><feature enabled='yes' "
        "name='enrolled-keys'/></firmware>");
    ASSERT_EQ(choose_firmware(all, os, nullptr), nullptr);
    const auto why = explain_no_firmware(all, os, nullptr);
    EXPECT_NE(why.find("no secure-boot, enrolled-keys"), why.npos) << why;
    EXPECT_NE(why.find("40.json has secure-boot"), why.npos) << why;
    EXPECT_NE(why.find("60.json lacks enrolled-keys"), why.npos) << why;
    EXPECT_NE(explain_no_firmware({}, os, nullptr).find("none of that kind"), std::string::npos);
    // What keeps code and variables in one file, or none at all, is for those who ask for it.
    auto combined = all[1];
    combined.mode = "combined";
    EXPECT_EQ(choose_firmware({combined}, uefi(), nullptr), nullptr);
    auto stateless = all[1];
    stateless.mode = "stateless";
    EXPECT_EQ(choose_firmware({stateless}, uefi(), nullptr), nullptr);
    EXPECT_NE(choose_firmware({stateless}, uefi("<loader stateless='yes'/>"), nullptr), nullptr);
    EXPECT_EQ(choose_firmware(all, uefi("<loader stateless='yes'/>"), nullptr), nullptr);
}

TEST(FirmwareChoice, LoadersThatNobodyDescribesHaveTheirUsualTemplates) {
    const auto os = [](const std::string& more) {
        return whole(
                   "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
                   "<memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type>" +
                   more + "</os></domain>")
            .os;
    };
    EXPECT_EQ(os("<loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>").nvram->template_path,
              "/usr/share/OVMF/OVMF_VARS.fd");
    EXPECT_EQ(os("<loader readonly='yes' type='pflash'>/mine.fd</loader>").nvram->template_path, "");
    EXPECT_FALSE(os("<loader readonly='yes' type='pflash' stateless='yes'>/mine.fd</loader>").nvram);
    EXPECT_FALSE(os("<loader readonly='no' type='pflash'>/mine.fd</loader>").nvram);
    EXPECT_FALSE(os("<loader type='rom'>/bios.bin</loader>").nvram);
    EXPECT_THROW(os("<loader type='rom'>/bios.bin</loader><nvram>/vars</nvram>"), Error);
    EXPECT_THROW(os("<loader readonly='yes' type='pflash' stateless='yes'>/a</loader><nvram>/vars</nvram>"), Error);
}

TEST(FirmwareChoice, FillsLoaderStoreAndSmm) {
    const auto config = whole(
        "<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid><memory>65536</memory><os "
        "firmware='efi'>"
        "<type arch='x86_64' machine='q35'>hvm</type></os></domain>");
    EXPECT_EQ(config.os.loader->path, "/usr/share/OVMF/OVMF_CODE_4M.ms.fd");
    EXPECT_EQ(config.os.loader->secure, true);
    EXPECT_TRUE(config.features->smm->on());
    EXPECT_EQ(config.os.nvram->template_path, "/usr/share/OVMF/OVMF_VARS_4M.ms.fd");
    EXPECT_EQ(config.os.nvram->path, "/var/lib/virtbus/nvram/00000000-0000-4000-8000-000000000001_VARS.qcow2");
}

Os manual(const std::string& more, const std::string& attributes = "", const char* machine = "q35",
          const char* features = "") {
    return whole(fmt::format("<domain type='qemu'><name>n</name><uuid>00000000-0000-4000-8000-000000000001</uuid>"
                             "<memory>65536</memory><os{}><type arch='x86_64' machine='{}'>hvm</type>{}</os>"
                             "<features>{}</features></domain>",
                             attributes, machine, more, features))
        .os;
}

TEST(Firmware, OfTheGuestsOwnIsWrittenUnlessItIsKnownToBeEverybodys) {
    const auto own = manual("<loader type='pflash'>/srv/both.fd</loader>");
    EXPECT_EQ(own.loader->readonly, false);
    EXPECT_FALSE(own.nvram);
    const auto split = manual("<loader type='pflash'>/srv/code.fd</loader><nvram>/srv/vars.fd</nvram>");
    EXPECT_EQ(split.loader->readonly, true);
    for (const char* shared : {"/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/edk2/ovmf/OVMF_CODE.fd"}) {
        const auto os = manual(fmt::format("<loader type='pflash'>{}</loader>", shared));
        EXPECT_EQ(os.loader->readonly, true) << shared;
        EXPECT_TRUE(os.nvram) << shared;
    }
}

TEST(Firmware, NamesTheFeaturesOfWhatWasChosen) {
    const auto features =
        manual("<firmware><feature enabled='no' name='secure-boot'/></firmware>", " firmware='efi'").firmware_features;
    ASSERT_EQ(features.size(), 2u);
    EXPECT_EQ(features[0].name + features[1].name, "enrolled-keyssecure-boot");
    EXPECT_FALSE(features[0].enabled || features[1].enabled);
    const auto any = manual("", " firmware='efi'").firmware_features;
    ASSERT_EQ(any.size(), 2u);
    EXPECT_TRUE(any[0].enabled && any[1].enabled);
    EXPECT_TRUE(manual("<loader type='pflash'>/srv/both.fd</loader>").firmware_features.empty());
}

TEST(Firmware, ThatContradictsItselfIsRefused) {
    constexpr const char *efi = " firmware='efi'", *bios = " firmware='bios'";
    EXPECT_THROW(manual("<loader readonly='yes' type='pflash'/>"), Error);
    EXPECT_THROW(manual("<loader secure='yes'/>"), Error);
    EXPECT_THROW(manual("<loader type='rom' stateless='no'>/b</loader>"), Error);
    EXPECT_THROW(manual("<loader stateless='no'/>", bios), Error);
    EXPECT_THROW(manual("<nvram>/v</nvram>", bios), Error);
    EXPECT_THROW(manual("<loader readonly='no'/>", efi), Error);
    EXPECT_THROW(manual("<loader type='pflash' secure='yes'>/c</loader><nvram>/v</nvram>", "", "pc"), Error);
    EXPECT_THROW(manual("<loader type='pflash' secure='yes'>/c</loader>", "", "q35", "<smm state='off'/>"), Error);
    EXPECT_THROW(manual("<firmware><feature enabled='no' name='secure-boot'/><feature enabled='yes' "
                        "name='enrolled-keys'/></firmware>",
                        efi),
                 Error);
    EXPECT_NO_THROW(manual("<loader type='rom' stateless='yes'>/b</loader>"));
    EXPECT_NO_THROW(manual("<loader type='pflash' secure='yes'>/c</loader>", "", "q35", "<smm state='on'/>"));
    EXPECT_NO_THROW(manual("<loader readonly='yes'/>", efi));
}

}  // namespace
}  // namespace virtbus::qemu
