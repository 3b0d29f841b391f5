// SPDX-License-Identifier: LGPL-2.1-or-later
// Text that means harm, and text that breaks the rules: each gets a clear Error and nothing else.
#include <fmt/format.h>

#include "support.hpp"

namespace virtbus::xml {
namespace {

TEST(Hostile, NotXml) {
    for (const auto* text :
         {"", " ", "hello", "<", "<domain", "<domain>", "</domain>", "<domain/><domain/>", "<domain><a></domain></a>"})
        EXPECT_EQ(parse_refusal(text).code, Code::invalid_xml) << text;
}

TEST(Hostile, SaysTheLine) {
    EXPECT_REFUSED(parse_refusal("<domain type='qemu'>\n<name>x</name>\n<oops>\n</domain>"), Code::invalid_xml,
                   "line 4");
}

TEST(Hostile, WrongRoot) {
    EXPECT_REFUSED(parse_refusal("<network/>"), Code::invalid_xml, "<network>");
    EXPECT_REFUSED(parse_refusal("<domain xmlns='urn:x' type='qemu'/>"), Code::invalid_xml, "namespace");
}

TEST(Hostile, DoctypeAndEntities) {
    EXPECT_REFUSED(parse_refusal("<!DOCTYPE domain><domain type='qemu'/>"), Code::invalid_xml, "DOCTYPE");
    EXPECT_REFUSED(parse_refusal("<!DOCTYPE d SYSTEM 'http://127.0.0.1:9/x.dtd'><domain type='qemu'/>"),
                   Code::invalid_xml, "DOCTYPE");
    EXPECT_REFUSED(
        parse_refusal(
            "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain type='qemu'><name>&x;</name></domain>"),
        Code::invalid_xml, "DOCTYPE");
    std::string bomb = "<!DOCTYPE d [<!ENTITY l0 'lol'>";
    for (int i = 1; i < 10; ++i) {
        bomb += fmt::format("<!ENTITY l{} '", i);
        for (int k = 0; k < 10; ++k) bomb += fmt::format("&l{};", i - 1);
        bomb += "'>";
    }
    EXPECT_REFUSED(parse_refusal(bomb + "]><domain type='qemu'><name>&l9;</name></domain>"), Code::invalid_xml,
                   "DOCTYPE");
    EXPECT_EQ(parse_refusal(domain("<title>&nosuch;</title>")).code, Code::invalid_xml);
}

TEST(Hostile, PredefinedEntitiesAndReferencesAreText) {
    EXPECT_EQ(parse("<title>&lt;&amp;&gt;&apos;&quot;&#65;&#x42;</title>").title, "<&>'\"AB");
}

TEST(Hostile, TooLarge) {
    const auto big = domain("<description>" + std::string(9UL << 20, 'x') + "</description>");
    EXPECT_REFUSED(parse_refusal(big), Code::limits_exceeded, "8388608");
}

TEST(Hostile, JustSmallEnough) {
    const auto text = domain("<description>" + std::string(8'000'000, 'x') + "</description>");
    EXPECT_EQ(parse_refusal(text).message, "");
}

TEST(Hostile, TooDeep) {
    std::string open, close;
    for (int i = 0; i < 5000; ++i) open += "<a>", close += "</a>";
    EXPECT_REFUSED(parse_refusal(domain(open + close)), Code::limits_exceeded, "deeper than 64");
    std::string chain_open, chain_close;
    for (int i = 0; i < 200; ++i) chain_open += "<backingStore type='file'>", chain_close += "</backingStore>";
    EXPECT_REFUSED(parse_refusal(domain("", "<disk>" + chain_open + chain_close + "<target dev='vda'/></disk>")),
                   Code::limits_exceeded, "deeper");
}

TEST(Hostile, TooManyElements) {
    std::string many;
    for (int i = 0; i < 250'000; ++i) many += "<a/>";
    EXPECT_REFUSED(parse_refusal(domain(many)), Code::limits_exceeded, "200000 elements");
}

TEST(Hostile, TooManyOfAKind) {
    std::string many;
    for (int i = 0; i < 5000; ++i) many += "<hub type='usb'/>";
    EXPECT_REFUSED(parse_refusal(domain("", many)), Code::invalid_xml, "more than 4096");
}

TEST(Hostile, TooManyAttributes) {
    std::string attributes;
    for (int i = 0; i < 100'000; ++i) attributes += fmt::format(" a{}=''", i);
    EXPECT_REFUSED(parse_refusal("<domain" + attributes + "/>"), Code::limits_exceeded, "attributes");
    // Signs in values, texts, comments and CDATA are no attributes.
    const std::string signs(1000, '=');
    EXPECT_EQ(parse_refusal(domain("<title>" + signs + "</title><!-- <a " + signs + " --><description><![CDATA[<a " +
                                   signs + "]]></description><x y='" + signs + "'/>"))
                  .message,
              "");
}

TEST(Hostile, ControlCharactersAndBadUtf8) {
    EXPECT_REFUSED(parse_refusal(domain("<title>a\x01z</title>")), Code::invalid_xml, "line 5: control character 0x01");
    EXPECT_REFUSED(parse_refusal(domain("<title>a\x7fz</title>")), Code::invalid_xml, "0x7f");
    EXPECT_REFUSED(parse_refusal(domain(std::string{"<title>a\0z</title>", 18})), Code::invalid_xml, "0x00");
    EXPECT_EQ(parse_refusal(domain("<title>&#1;</title>")).code, Code::invalid_xml);
    for (const auto* bytes : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82", "\x80",
                              "\xf0\x80\x80\x80", "\xe0\x9f\xbf"})
        EXPECT_REFUSED(parse_refusal(domain(std::string{"<title>"} + bytes + "</title>")), Code::invalid_xml, "UTF-8");
    EXPECT_EQ(parse("<title>\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7</title>").title,
              "\xc3\xa4\xe2\x82\xac\xf0\x9f\x90\xa7");
}

TEST(Hostile, DeclaredEncodingIsNotBelieved) {
    EXPECT_EQ(parse_domain("<?xml version='1.0' encoding='UTF-16'?>" + domain("<title>\xc3\xa4</title>")).config.title,
              "\xc3\xa4");
}

TEST(Hostile, WrongWordsNameLineElementValueAndAllowed) {
    const auto refused = parse_refusal(domain("", "<disk type='file' device='tape'><target dev='vda'/></disk>"));
    EXPECT_REFUSED(refused, Code::invalid_xml,
                   "line 7, <disk>: device='tape' is not allowed; allowed: disk, cdrom, floppy, lun");
    EXPECT_REFUSED(parse_refusal(domain("<on_crash>explode</on_crash>")), Code::invalid_xml,
                   "line 5, <on_crash>: the value 'explode' is not allowed; allowed: destroy, restart, preserve");
    EXPECT_REFUSED(parse_refusal(domain("<features><pmu state='maybe'/></features>")), Code::invalid_xml,
                   "allowed: on, off");
    EXPECT_REFUSED(parse_refusal(domain("", "<disk><target dev='vda'/><address type='tcp'/></disk>")),
                   Code::invalid_xml, "type='tcp' is not allowed; allowed: pci, drive, virtio-serial");
    EXPECT_REFUSED(parse_refusal(domain("", "<controller type='usb' model='usb4'/>")), Code::invalid_xml, "qemu-xhci");
}

TEST(Hostile, WrongNumbers) {
    for (const auto* text : {"", "x", "-1", "0", "65536", "1.5", "1e3", "99999999999999999999", "1 2", "0x"})
        EXPECT_EQ(parse_refusal(domain(fmt::format("<vcpu current='1'>{}</vcpu>", text))).code,
                  *text ? Code::invalid_xml : Code::internal)
            << text;
    EXPECT_REFUSED(parse_refusal(domain("<vcpu>0</vcpu>")), Code::invalid_xml, "from 1 to 65535");
    EXPECT_REFUSED(parse_refusal(domain("", "<disk><target dev='vda'/><address type='pci' bus='0x100'/></disk>")),
                   Code::invalid_xml, "from 0 to 255");
    EXPECT_REFUSED(parse_refusal(domain("<currentMemory unit='parsec'>1</currentMemory>")), Code::invalid_xml, "KiB");
    EXPECT_REFUSED(parse_refusal(domain("<currentMemory unit='E'>100</currentMemory>")), Code::invalid_xml, "100 E");
    EXPECT_REFUSED(parse_refusal(domain("<currentMemory>-5</currentMemory>")), Code::invalid_xml, "-5");
    EXPECT_REFUSED(parse_refusal(domain("<cputune><vcpupin vcpu='0' cpuset='5-2'/></cputune>")), Code::invalid_xml,
                   "0-3,^2,8");
    EXPECT_REFUSED(parse_refusal(domain("<cputune><vcpupin vcpu='0' cpuset='0-4000000000'/></cputune>")),
                   Code::invalid_xml, "16383");
}

TEST(Hostile, WrongIdentifiers) {
    EXPECT_REFUSED(parse_refusal(domain("<uuid>not-a-uuid</uuid>")), Code::invalid_xml, "32 hexadecimal digits");
    EXPECT_REFUSED(parse_refusal(domain("", "<interface type='user'><mac address='52:54:00:00:00'/></interface>")),
                   Code::invalid_xml, "MAC");
    EXPECT_REFUSED(parse_refusal(domain("", "<interface type='user'><mac address='01:00:5e:00:00:01'/></interface>")),
                   Code::invalid_xml, "unicast");
}

TEST(Hostile, MissingParts) {
    EXPECT_REFUSED(parse_refusal("<domain><name>x</name><os/></domain>"), Code::invalid_xml,
                   "attribute 'type' is missing");
    EXPECT_REFUSED(parse_refusal("<domain type='qemu'><os/></domain>"), Code::invalid_xml, "element <name> is missing");
    EXPECT_REFUSED(parse_refusal("<domain type='qemu'><name/><os/></domain>"), Code::invalid_xml, "<name>");
    EXPECT_REFUSED(parse_refusal("<domain type='qemu'><name>x</name></domain>"), Code::invalid_xml,
                   "element <os> is missing");
    EXPECT_REFUSED(parse_refusal(domain("", "<disk/>")), Code::invalid_xml, "element <target> is missing");
    EXPECT_REFUSED(parse_refusal(domain("", "<interface type='network'/>")), Code::invalid_xml,
                   "'network' in <source>");
    EXPECT_REFUSED(parse_refusal(domain("", "<hostdev type='pci'><source/></hostdev>")), Code::invalid_xml,
                   "<address>");
    EXPECT_REFUSED(parse_refusal(domain("", "<disk><target dev='vda'/><address/></disk>")), Code::invalid_xml,
                   "'type' is missing");
}

TEST(Hostile, OnceOnly) {
    EXPECT_REFUSED(parse_refusal(domain("<title>a</title><title>b</title>")), Code::invalid_xml,
                   "line 5, <title>: this element may occur only once");
    EXPECT_REFUSED(parse_refusal(domain("<vcpu>1</vcpu><vcpu>2</vcpu>")), Code::invalid_xml, "only once");
    EXPECT_REFUSED(parse_refusal(domain("", "<memballoon model='none'/><memballoon model='none'/>")), Code::invalid_xml,
                   "only once");
}

TEST(Hostile, ErrorsStayShort) {
    const auto refused =
        parse_refusal(domain("", "<disk device='" + std::string(100'000, 'x') + "'><target dev='vda'/></disk>"));
    EXPECT_EQ(refused.code, Code::invalid_xml);
    EXPECT_LT(refused.message.size(), 400U);
}

TEST(Hostile, LineNumbersBeyond65535) {
    EXPECT_REFUSED(parse_refusal(domain(std::string(70'000, '\n') + "<vcpu>x</vcpu>")), Code::invalid_xml,
                   "line 70005");
}

}  // namespace
}  // namespace virtbus::xml
