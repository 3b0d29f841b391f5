// SPDX-License-Identifier: LGPL-2.1-or-later
#include "qemu/unit_limits.hpp"

#include <gtest/gtest.h>

namespace virtbus::qemu {
namespace {

TEST(UnitLimits, NothingIsSetThatWasNotAskedFor) {
    const auto limits = unit_limits(DomainConfig{});
    EXPECT_FALSE(limits.cpu_weight || limits.cpu_quota || limits.memory_max || limits.memory_high || limits.swap_max ||
                 limits.io_weight);
    EXPECT_TRUE(limits.devices.empty());
}

TEST(UnitLimits, SharesBecomeWeights) {
    DomainConfig config;
    config.cputune.emplace().shares = 2048;
    config.blkiotune.emplace().weight = 1000;
    EXPECT_EQ(unit_limits(config).cpu_weight, 200U);
    EXPECT_EQ(unit_limits(config).io_weight, 200U);
    config.cputune->shares = 1;
    EXPECT_EQ(unit_limits(config).cpu_weight, 1U);
    config.cputune->shares = 1U << 30;
    EXPECT_EQ(unit_limits(config).cpu_weight, 10'000U);
}

TEST(UnitLimits, QuotasOfThreadsAreAddedUp) {
    DomainConfig config;
    config.vcpu = 4;
    auto& tune = config.cputune.emplace();
    tune.period = 100'000;
    tune.quota = 50'000;
    tune.emulator_quota = 20'000;
    EXPECT_EQ(unit_limits(config).cpu_quota, 4U * 500'000U + 200'000U);
    tune.emulator_quota = -1;
    EXPECT_EQ(unit_limits(config).cpu_quota, 4U * 500'000U + 1'000'000U);
    tune.global_period = 50'000;
    tune.global_quota = 100'000;
    EXPECT_EQ(unit_limits(config).cpu_quota, 2'000'000U);
    EXPECT_EQ(unit_limits(config).cpu_period, 50'000U);
    tune.global_quota = tune.quota = -1;
    EXPECT_FALSE(unit_limits(config).cpu_quota);
}

TEST(UnitLimits, FirmModesNameTheNodesOfMemory) {
    DomainConfig config;
    auto& memory = config.numatune.emplace().memory.emplace();
    memory.nodeset = CpuSet{{0, 3}};
    using Nodes = std::vector<unsigned>;
    for (const auto* mode : {"strict", "restrictive", ""}) {
        memory.mode = mode;
        EXPECT_EQ(unit_limits(config).memory_nodes, (Nodes{0, 3})) << mode;
    }
    config.numatune->memnodes.push_back({0, "strict", CpuSet{{1}}, {}});
    EXPECT_EQ(unit_limits(config).memory_nodes, (Nodes{0, 1, 3}));
    config.numatune->memnodes.push_back({1, "preferred", CpuSet{{2}}, {}});
    EXPECT_TRUE(unit_limits(config).memory_nodes.empty()) << "one may take from anywhere";
    config.numatune->memnodes.clear();
    for (const auto* mode : {"preferred", "interleave"}) {
        memory.mode = mode;
        EXPECT_TRUE(unit_limits(config).memory_nodes.empty()) << mode;
    }
}

TEST(UnitLimits, SwapIsWhatGoesBeyondMemory) {
    DomainConfig config;
    auto& tune = config.memtune.emplace();
    tune.hard_limit = 4ULL << 30;
    tune.swap_hard_limit = 5ULL << 30;
    EXPECT_EQ(unit_limits(config).memory_max, 4ULL << 30);
    EXPECT_EQ(unit_limits(config).swap_max, 1ULL << 30);
    tune.swap_hard_limit = 1ULL << 30;  // contradicts itself: no swap
    EXPECT_EQ(unit_limits(config).swap_max, 0U);
}

}  // namespace
}  // namespace virtbus::qemu
