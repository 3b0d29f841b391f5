// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/parallel.hpp"

#include <algorithm>

namespace virtbus {

namespace {

struct Batch {
    std::vector<std::function<Task<>()>> work;
    std::size_t next = 0, running = 0;
    Reply<>::Promise done;
};

Task<> take_from(std::shared_ptr<Batch> batch) {
    while (batch->next < batch->work.size()) {
        const auto piece = std::move(batch->work[batch->next++]);
        co_await piece();
    }
    if (--batch->running == 0) batch->done.set();
}

}  // namespace

Task<> run_all(Loop& loop, Scope& scope, std::vector<std::function<Task<>()>> work, std::size_t width) {
    if (work.empty()) co_return;
    Reply<> done{loop};
    const auto hands = std::min(std::max<std::size_t>(width, 1), work.size());
    const auto batch = std::make_shared<Batch>(Batch{std::move(work), 0, hands, done.promise()});
    for (std::size_t i = 0; i < hands; ++i) scope.spawn(take_from(batch));
    co_await done.wait("the end of all pieces", std::nullopt);
}

}  // namespace virtbus
