// SPDX-License-Identifier: LGPL-2.1-or-later
// When a job is seen, how often it is told of, and how it ends.
#include "service/jobs.hpp"

#include "service/lane.hpp"
#include "world.hpp"

namespace virtbus::tests {
namespace {

/// A loop whose time moves when the test says so.
class HandLoop final : public Loop {
public:
    void post(Work work) override { posted_.push_back(std::move(work)); }
    Registration after(Duration wait, Work work) override {
        auto timer = std::make_shared<Timer>(Timer{now_ + wait, std::move(work)});
        timers_.push_back(timer);
        struct Held final : Registered {
            explicit Held(std::shared_ptr<Timer> held) : timer{std::move(held)} {}
            std::shared_ptr<Timer> timer;
        };
        return std::make_unique<Held>(std::move(timer));
    }
    Registration watch(int, unsigned, std::function<void(unsigned)>) override { return nullptr; }

    void turn() {
        while (!posted_.empty()) {
            auto batch = std::exchange(posted_, {});
            for (auto& work : batch) work();
        }
    }
    void pass(Duration time) {
        turn();
        const auto target = now_ + time;
        for (;;) {
            std::shared_ptr<Timer> next;
            for (const auto& weak : timers_)
                if (const auto timer = weak.lock(); timer && timer->due <= target && (!next || timer->due < next->due))
                    next = timer;
            if (!next) break;
            now_ = next->due;
            const auto work = std::exchange(next->work, nullptr);
            next->due = Duration::max();
            work();
            turn();
        }
        now_ = target;
    }

private:
    struct Timer {
        Duration due;
        Work work;
    };
    std::vector<Work> posted_;
    std::vector<std::weak_ptr<Timer>> timers_;
    Duration now_{0};
};

class FixedClock final : public Clock {
public:
    std::uint64_t now() const override { return 42; }
};

class JobsTest : public ::testing::Test {
protected:
    /// Work that ends when the test says so.
    struct Gate {
        explicit Gate(Loop& loop) : reply{loop} {}
        Reply<> reply;
    };
    static Task<> pass_gate(std::shared_ptr<Gate> gate, JobPtr job) {
        co_await gate->reply.wait("the gate", std::nullopt, job->stop());
    }
    JobPtr run(std::shared_ptr<Gate> gate, bool publish_now = false, bool cancelable = true) {
        JobSpec spec{.operation = "save", .domains = {"u"}, .action = "domain.save", .caller = Caller{.uid = 7}};
        spec.publish_now = publish_now;
        spec.cancelable = cancelable;
        return jobs.run(std::move(spec), [gate](JobPtr job) { return pass_gate(gate, std::move(job)); });
    }
    std::shared_ptr<Gate> gate() { return std::make_shared<Gate>(loop); }

    template <class T>
    static Task<> note(Task<T> task, std::optional<T>& value, Refusal& refused) {
        try {
            value = co_await task;
        } catch (const Error& e) {
            refused = {e.code(), e.what()};
        }
    }

    HandLoop loop;
    FixedClock clock;
    RecordingLog log;
    RecordingAudience audience;
    Jobs jobs{loop, clock, log, audience};
    Scope scope;
};

TEST_F(JobsTest, OneThatReturnsItsPathIsPublishedAtOnce) {
    const auto gate_ = gate();
    const auto job = run(gate_, true);
    EXPECT_EQ(audience.told, (std::vector<std::string>{"job save"}));
    EXPECT_EQ(jobs.find(job->id()), job);
    EXPECT_EQ(job->view().started_by_uid, 7u);
    EXPECT_EQ(job->view().started_at, 42u);
    gate_->reply.promise().set();
    loop.turn();
    EXPECT_EQ(audience.told, (std::vector<std::string>{"job save", "job-changed save", "job-completed save"}));
    EXPECT_EQ(job->view().state, JobState::succeeded);
}

TEST_F(JobsTest, AnotherIsPublishedAfterHalfASecondOrNever) {
    const auto quick = gate(), slow = gate();
    const auto quick_job = run(quick), slow_job = run(slow);
    quick->reply.promise().set();
    loop.pass(Duration{499});
    EXPECT_TRUE(audience.told.empty());
    EXPECT_EQ(jobs.find(slow_job->id()), nullptr);
    EXPECT_TRUE(jobs.list().empty());
    loop.pass(Duration{1});
    EXPECT_EQ(audience.told, (std::vector<std::string>{"job save"}));
    EXPECT_TRUE(quick_job->finished());
    EXPECT_EQ(jobs.list().size(), 1u);
    slow->reply.promise().set();
    loop.turn();
}

TEST_F(JobsTest, ChangesAreToldTwiceASecondAndTheLastBeforeTheEnd) {
    const auto gate_ = gate();
    const auto job = run(gate_, true);
    for (int i = 1; i <= 100; ++i) {
        job->progress(static_cast<std::uint64_t>(i), 200);
        loop.pass(Duration{10});
    }
    EXPECT_EQ(audience.count("job-changed save"), 3u);  // at 0, 500 and 1000 ms
    job->phase("last words");
    EXPECT_EQ(audience.count("job-changed save"), 3u);
    gate_->reply.promise().set();
    loop.turn();
    EXPECT_EQ(audience.count("job-changed save"), 4u);
    EXPECT_EQ(audience.job_phases.back(), "last words");
    EXPECT_EQ(audience.told.back(), "job-completed save");
    EXPECT_EQ(job->view().bytes_done, 100u);
    EXPECT_DOUBLE_EQ(job->view().progress, 0.5);
}

TEST_F(JobsTest, WhatDoesNotChangeIsNotTold) {
    const auto gate_ = gate();
    const auto job = run(gate_, true);
    job->phase("copying");
    loop.pass(Duration{2'000});
    job->phase("copying");
    loop.pass(Duration{2'000});
    EXPECT_EQ(audience.count("job-changed save"), 1u);
    gate_->reply.promise().set();
    loop.turn();
}

TEST_F(JobsTest, FinishedOnesStayAMinuteAndAtMost64) {
    const auto first = gate();
    const auto first_job = run(first, true);
    first->reply.promise().set();
    loop.pass(Duration{59'999});
    EXPECT_EQ(jobs.find(first_job->id()), first_job);
    loop.pass(Duration{1});
    EXPECT_EQ(jobs.find(first_job->id()), nullptr);
    EXPECT_TRUE(audience.heard("job-removed 1"));
    const auto busy = gate();
    const auto running = run(busy, true);
    for (int i = 0; i < 70; ++i) {
        const auto next = gate();
        run(next, true);
        next->reply.promise().set();
        loop.turn();
    }
    EXPECT_EQ(jobs.list().size(), 65u);
    EXPECT_EQ(jobs.find(running->id()), running);
    busy->reply.promise().set();
    loop.turn();
    EXPECT_EQ(jobs.list().size(), 64u);
}

TEST_F(JobsTest, WaitReturnsAtTheEndOrWhenPatienceEnds) {
    const auto gate_ = gate();
    const auto job = run(gate_);
    std::optional<bool> long_wait, later;
    Refusal refused;
    scope.spawn(note(jobs.wait(job, std::nullopt), long_wait, refused));
    loop.turn();
    EXPECT_FALSE(long_wait);
    gate_->reply.promise().set();
    loop.turn();
    EXPECT_EQ(long_wait, true);
    scope.spawn(note(jobs.wait(job, Duration{1}), later, refused));
    EXPECT_EQ(later, true);
    EXPECT_FALSE(refused.code);
}

TEST_F(JobsTest, ImpatientWaitsGoOnWithoutIt) {
    const auto gate_ = gate();
    const auto job = run(gate_);
    std::optional<bool> short_wait;
    Refusal refused;
    scope.spawn(note(jobs.wait(job, Duration{100}), short_wait, refused));
    loop.pass(Duration{101});
    EXPECT_EQ(short_wait, false);
    EXPECT_FALSE(job->finished());
    gate_->reply.promise().set();
    loop.turn();
    EXPECT_EQ(job->view().state, JobState::succeeded);
}

TEST_F(JobsTest, AFailureReachesAllWhoWaitAndTheLogOnce) {
    const auto gate_ = gate();
    const auto job = run(gate_, true);
    std::optional<bool> one, two;
    Refusal first, second;
    scope.spawn(note(jobs.wait(job, std::nullopt), one, first));
    scope.spawn(note(jobs.wait(job, std::nullopt), two, second));
    gate_->reply.promise().fail(Error{Code::no_space, "the disk is full"});
    loop.turn();
    EXPECT_EQ(first.message, "the disk is full");
    EXPECT_EQ(second.code, Code::no_space);
    EXPECT_EQ(job->view().state, JobState::failed);
    EXPECT_EQ(job->view().error_word, "NoSpace");
    ASSERT_EQ(log.lines.size(), 1u);
    EXPECT_EQ(log.lines[0].first, Priority::warning);
    EXPECT_NE(log.lines[0].second.find("'save' failed: the disk is full"), std::string::npos);
}

TEST_F(JobsTest, CancellingEndsItAsCancelled) {
    const auto gate_ = gate();
    const auto job = run(gate_, true);
    job->cancel();
    loop.turn();
    EXPECT_EQ(job->view().state, JobState::cancelled);
    EXPECT_EQ(job->view().error_word, "Cancelled");
    EXPECT_REFUSED(job->cancel(), Code::invalid_state, "has ended");

    const auto stubborn = gate();
    const auto other = run(stubborn, true, false);
    EXPECT_REFUSED(other->cancel(), Code::invalid_state, "cannot be cancelled");
    stubborn->reply.promise().set();
    loop.turn();
}

// ---- the lane
// ----------------------------------------------------------------------------------------------------------

class LaneTest : public JobsTest {
protected:
    /// Holds the lane until its gate opens.
    static Task<> hold(Lane& lane, Lane::Subject subject, std::shared_ptr<Gate> gate, std::vector<std::string>& order,
                       std::string name, JobPtr job) {
        const auto held = co_await lane.enter(job, subject);
        order.push_back(name);
        co_await gate->reply.wait("the gate", std::nullopt, job->stop());
    }
    static Task<> hold_next(Lane& lane, std::vector<std::string>& order, std::string name, JobPtr job) {
        const auto held = co_await lane.enter_next(job, std::nullopt);
        order.push_back(name);
    }
    JobPtr holder(const std::string& name, std::shared_ptr<Gate> gate, Lane::Subject subject = Lane::Subject::guest) {
        return jobs.run({.operation = name}, [this, name, gate, subject](JobPtr job) {
            return hold(lane, subject, gate, order, name, std::move(job));
        });
    }
    JobPtr next(const std::string& name) {
        return jobs.run({.operation = name},
                        [this, name](JobPtr job) { return hold_next(lane, order, name, std::move(job)); });
    }
    Lane lane{loop, "domain 'web'"};
    std::vector<std::string> order;
};

TEST_F(LaneTest, FirstComeFirstServed) {
    const auto a = gate(), b = gate(), c = gate();
    holder("a", a);
    holder("b", b);
    holder("c", c);
    EXPECT_EQ(order, (std::vector<std::string>{"a"}));
    a->reply.promise().set();
    loop.turn();
    EXPECT_EQ(order, (std::vector<std::string>{"a", "b"}));
    b->reply.promise().set();
    c->reply.promise().set();
    loop.turn();
    EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c"}));
    EXPECT_TRUE(lane.idle());
}

TEST_F(LaneTest, WhoIsCancelledLeavesTheQueue) {
    const auto a = gate(), b = gate(), c = gate();
    holder("a", a);
    const auto waiting = holder("b", b);
    holder("c", c);
    waiting->cancel();
    loop.turn();
    EXPECT_EQ(waiting->view().state, JobState::cancelled);
    a->reply.promise().set();
    loop.turn();
    EXPECT_EQ(order, (std::vector<std::string>{"a", "c"}));
    c->reply.promise().set();
    loop.turn();
    EXPECT_TRUE(lane.idle());
}

TEST_F(LaneTest, OneCancelledInTheTurnItIsItsTurnGivesItOn) {
    const auto a = gate(), b = gate(), c = gate();
    holder("a", a);
    const auto waiting = holder("b", b);
    holder("c", c);
    a->reply.promise().set();
    waiting->cancel();
    loop.turn();
    EXPECT_EQ(order, (std::vector<std::string>{"a", "c"}));
    c->reply.promise().set();
    loop.turn();
    EXPECT_TRUE(lane.idle());
}

TEST_F(LaneTest, The64thMayWaitAndThe65thIsToldWhoHoldsIt) {
    const auto gate_ = gate();
    const auto first = holder("a", gate_);
    std::vector<JobPtr> waiting;
    for (int i = 0; i < 64; ++i) waiting.push_back(holder("b", gate_));
    const auto surplus = holder("c", gate_);
    EXPECT_TRUE(surplus->finished());
    EXPECT_EQ(surplus->view().error_word, "Busy");
    EXPECT_NE(surplus->view().error_message.find("domain 'web' is held by 'a' (job 1)"), std::string::npos)
        << surplus->view().error_message;
    for (const auto& each : waiting) EXPECT_FALSE(each->finished());
    gate_->reply.promise().set();
    loop.turn();
    EXPECT_TRUE(lane.idle());
}

TEST_F(LaneTest, ClearingTheWaySparesWorkOnTheDefinition) {
    const auto a = gate(), b = gate(), c = gate();
    const auto on_guest = holder("a", a);
    const auto on_definition = holder("b", b, Lane::Subject::definition);
    const auto later = holder("c", c);
    EXPECT_TRUE(lane.clear_way());
    const auto stop = next("stop");
    loop.turn();
    EXPECT_EQ(on_guest->view().state, JobState::cancelled);
    EXPECT_EQ(later->view().state, JobState::cancelled);
    EXPECT_EQ(order, (std::vector<std::string>{"a", "stop", "b"}));
    EXPECT_FALSE(lane.clear_way());
    b->reply.promise().set();
    loop.turn();
    EXPECT_EQ(on_definition->view().state, JobState::succeeded);
}

}  // namespace
}  // namespace virtbus::tests
