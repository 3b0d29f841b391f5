// SPDX-License-Identifier: LGPL-2.1-or-later
// ResourceBroker: opens what a start asks for, notes what must be undone, and undoes it. Recording the notes in the
// status file is the owner's work, who is told of each; what the files are for is the driver's.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <vector>

#include "virtbus/driver.hpp"
#include "virtbus/link_mover.hpp"
#include "virtbus/ports.hpp"

namespace virtbus {

/// The host's side of an interface, or a device of the host, to be taken back when the device or the run ends.
struct OpenLink {
    std::string key;    ///< what close_link wants, or what claims.hpp writes
    std::string alias;  ///< the device's; "" when it is not known
    bool operator==(const OpenLink&) const = default;
};

class ResourceBroker final : public Resources, public LinkMover {
public:
    struct Setting {
        Files& files;
        Log& log;
        LinkProvider* links;  ///< null: interfaces that need one are Unsupported
        std::string logs_folder, secrets_folder;
        std::function<void()> recorded;  ///< the list of links has grown; may throw, then the link is undone
        PciDevices* pci = nullptr;       ///< null: no PCI device can be taken
        /// The name of the domain, other than this, that has a device of the host; "" = nobody.
        std::function<std::string(const std::string& device)> holder{};
    };
    ResourceBroker(Setting setting, Deadline deadline, std::stop_token stop);
    /// For a guest that was taken up: its links are known; nothing is opened before renew().
    ResourceBroker(Setting setting, std::vector<OpenLink> links);

    Task<Fd> open_file(std::string path, Access access) override;
    Task<Fd> create_file(std::string path) override;
    Task<Fd> open_log(std::string path) override;
    Task<Link> open_link(LinkRequest request) override;
    Task<Link> move_link(LinkRequest request) override;
    Task<> take_pci(std::vector<PciRequest> wanted) override;
    void claim(std::string device, std::string alias) override;
    Task<std::string> secret(SecretRef reference) override;
    std::stop_token stop() const override { return stop_; }

    const std::vector<OpenLink>& links() const { return links_; }
    /// That device of the host is this guest's.
    bool holds(const std::string& device) const;
    /// Opens more for a run that is up, under a new deadline. What is opened from here on is taken back by undo_since()
    /// with the mark returned, and kept by keep().
    std::size_t renew(Deadline deadline, std::stop_token stop);
    Task<> undo_since(std::size_t mark);
    void keep() { made_.clear(); }
    /// The device has gone: closes its links.
    Task<> close_links_of(std::string alias);
    /// Closes the links. What cannot be undone is logged and forgotten; never throws.
    Task<> undo();
    /// undo(), and removes the files that were made: the start has failed.
    Task<> undo_start();

private:
    Setting setting_;
    Deadline deadline_{};
    std::stop_token stop_;
    Task<> close_link(std::string key);
    void require_group_is_free(const PciRequest& wanted, const PciFacts& facts) const;
    Task<> take_from_driver(PciRequest wanted, PciFacts before);
    void forget_link(const std::string& key);
    Task<> remove_made();

    std::vector<OpenLink> links_;
    std::vector<std::string> made_;
};

}  // namespace virtbus
