// SPDX-License-Identifier: LGPL-2.1-or-later
// Finds definitions of network filters, an administrator's before the shipped ones, and says what those of an interface
// come to. Definitions are read anew each time: who changes one has it with the next start or plug.
#pragma once

#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/model/network_filter.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

class NetworkFilters {
public:
    /// Folders of files NAME.xml; the first that has one wins.
    NetworkFilters(Files& files, std::vector<std::string> folders) : files_{files}, folders_{std::move(folders)} {}
    /// In the configuration folder, then the shipped ones: beside a daemon of a build tree, else where they are
    /// installed.
    NetworkFilters(Files& files, const Folders& folders);

    /// Null for an interface without. UnsupportedConfiguration, naming the interface, the filter and where it is looked
    /// for.
    Task<std::shared_ptr<const LinkFilter>> resolve(Interface interface, Deadline deadline, std::stop_token stop = {});

    /// What resolve() has against these, a sentence each. Whether the kernel has what their rules take is seen at a
    /// start.
    Task<std::vector<std::string>> problems(std::vector<Interface> interfaces, Deadline deadline);

private:
    using Book = std::map<std::string, NetworkFilter>;
    Task<Book> gather(std::string name, Deadline deadline, std::stop_token stop);
    Task<NetworkFilter> get(std::string name, Deadline deadline, std::stop_token stop);

    Files& files_;
    std::vector<std::string> folders_;
};

}  // namespace virtbus
