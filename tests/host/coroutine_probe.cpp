// SPDX-License-Identifier: LGPL-2.1-or-later
// Does this compiler keep count in coroutines? Each case makes temporaries around a co_await and must destroy each of
// them once. g++ below 14 fails some of these, which is why the build refuses it.
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "virtbus/task.hpp"

using virtbus::Scope;
using virtbus::Task;

namespace {

int alive;

struct Counted {
    Counted() { ++alive; }
    Counted(const Counted&) { ++alive; }
    Counted(Counted&&) noexcept { ++alive; }
    Counted& operator=(const Counted&) = default;
    ~Counted() { --alive; }
};
struct Aggregate {
    int number;
    Counted counted;
    std::string text;
};

const char* const on_the_heap = "a text that is too long for the small string";

Task<bool> yes() {
    co_return true;
}
Task<Counted> make() {
    co_return Counted{};
}
Task<int> take(Counted) {
    co_return 1;
}
Task<std::size_t> take_aggregate(Aggregate value) {
    co_return value.text.size();
}
Task<int> take_function(std::function<int()> function) {
    co_return function();
}
Task<> fail() {
    throw 1;
    co_return;
}

Task<> if_without_locals(int& reached) {
    if (co_await yes()) ++reached;
}
Task<> while_without_locals(int& reached) {
    while (co_await yes()) {
        ++reached;
        break;
    }
}
Task<> aggregate_in_braces(int& reached) {
    reached += (co_await take_aggregate({1, Counted{}, on_the_heap})) > 0;
}
Task<> designated_aggregate(int& reached) {
    reached += (co_await take_aggregate({.number = 1, .counted = Counted{}, .text = on_the_heap})) > 0;
}
Task<> capturing_lambda(int& reached) {
    Counted counted;
    reached += co_await take_function([counted] { return 1; });
}
Task<> nested(int& reached) {
    reached += co_await take(co_await make());
}
Task<> ternary(int& reached) {
    reached += (co_await yes()) ? co_await take(Counted{}) : 0;
}
Task<> thrown_past(int& reached) {
    bool caught = false;
    try {
        Counted guard;
        co_await fail();
    } catch (int) {
        caught = true;
    }
    if (caught) reached += co_await take(Counted{});
}

class Probe : public ::testing::TestWithParam<Task<> (*)(int&)> {};

TEST_P(Probe, RunsItsBodyOnceAndDestroysEachTemporaryOnce) {
    alive = 0;
    int reached = 0;
    {
        Scope scope;
        scope.spawn(GetParam()(reached));
        EXPECT_TRUE(scope.empty());
    }
    EXPECT_EQ(reached, 1);
    EXPECT_EQ(alive, 0);
}

INSTANTIATE_TEST_SUITE_P(Spellings, Probe,
                         ::testing::Values(if_without_locals, while_without_locals, aggregate_in_braces,
                                           designated_aggregate, capturing_lambda, nested, ternary, thrown_past));

}  // namespace
