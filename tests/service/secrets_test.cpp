// SPDX-License-Identifier: LGPL-2.1-or-later
// Stored secrets: where they lie, and what is no secret any more.
#include "service/secrets.hpp"

#include <sys/stat.h>

#include <fstream>

#include "world.hpp"

namespace virtbus::tests {
namespace {

class SecretsTest : public World {
protected:
    void put(const std::string& name, const std::string& value, unsigned mode = 0600) {
        const std::filesystem::path path = root + "/secrets/" + name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream{path} << value;
        ASSERT_EQ(::chmod(path.c_str(), mode), 0);
    }
    std::string get(const SecretRef& reference) { return run(secrets.get(reference, in(Duration{5000}))); }
    std::string refusal(const SecretRef& reference) {
        try {
            get(reference);
        } catch (const Error& error) {
            return error.what();
        }
        return "";
    }
    static SecretRef by_uuid(std::string uuid) {
        SecretRef reference;
        reference.uuid = std::move(uuid);
        return reference;
    }
    static SecretRef by_usage(std::string type, std::string usage) {
        SecretRef reference;
        reference.type = std::move(type);
        reference.usage = std::move(usage);
        return reference;
    }
    Secrets secrets{files, root + "/secrets"};
    const std::string uuid = "6473fd97-f1f6-4d35-bd11-4a1a5f0ea5a4";
};

TEST_F(SecretsTest, IsTheFilesBytesAsTheyAre) {
    const std::string value{"a\0b\n", 4};
    put(uuid, value);
    EXPECT_EQ(get(by_uuid(uuid)), value);
    put("iscsi/my_host", "chap");
    EXPECT_EQ(get(by_usage("iscsi", "my_host")), "chap");
}

TEST_F(SecretsTest, AUsageCannotLeaveItsFolder) {
    EXPECT_EQ(secrets.path_of(by_usage("passphrase", "/srv/luks.img")), root + "/secrets/passphrase/%2Fsrv%2Fluks.img");
    EXPECT_EQ(secrets.path_of(by_usage("..", "..")), root + "/secrets/%2E./%2E.");
    EXPECT_EQ(secrets.path_of(by_usage("tls", std::string{"a\0%", 3})), root + "/secrets/tls/a%00%25");
    put("victim", "x");
    EXPECT_NE(refusal(by_uuid("../secrets/victim")), "");
}

TEST_F(SecretsTest, WhatOthersMayReadIsRefusedWithTheCure) {
    for (const unsigned mode : {0640u, 0604u, 0660u, 0601u}) {
        put(uuid, "open", mode);
        EXPECT_NE(refusal(by_uuid(uuid)).find("chmod 600 " + root + "/secrets/" + uuid), std::string::npos) << mode;
    }
    put(uuid, "kept", 0400);
    EXPECT_EQ(get(by_uuid(uuid)), "kept");
}

TEST_F(SecretsTest, WhatIsNoSecretIsRefused) {
    EXPECT_NE(refusal(by_uuid(uuid)).find("is not there"), std::string::npos);
    EXPECT_NE(refusal(SecretRef{}).find("'uuid'"), std::string::npos);
    put(uuid, "");
    EXPECT_NE(refusal(by_uuid(uuid)).find("is empty"), std::string::npos);
    put(uuid, std::string((1 << 20) + 1, 'x'));
    EXPECT_NE(refusal(by_uuid(uuid)).find("longer than 1 MiB"), std::string::npos);
    put(uuid, std::string(1 << 20, 'x'));
    EXPECT_EQ(get(by_uuid(uuid)).size(), 1u << 20);
    std::filesystem::remove(root + "/secrets/" + uuid);
    put("other", "elsewhere");
    std::filesystem::create_symlink("other", root + "/secrets/" + uuid);
    EXPECT_NE(refusal(by_uuid(uuid)), "") << "a link was followed";
    std::filesystem::remove(root + "/secrets/" + uuid);
    ASSERT_EQ(::mkfifo((root + "/secrets/" + uuid).c_str(), 0600), 0);
    EXPECT_NE(refusal(by_uuid(uuid)).find("is no file"), std::string::npos);
}

}  // namespace
}  // namespace virtbus::tests
