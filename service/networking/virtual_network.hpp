// SPDX-License-Identifier: LGPL-2.1-or-later
// VirtualNetwork: the Network of networks.hpp. It holds the definition and, while it is active, what runs and who is on
// it, keeps the live state on disk and the audience in step, and carries out the verbs in its lane. Which networks
// exist is network_list.hpp's knowledge, which links guests have network_links.hpp's.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "service/lane.hpp"
#include "service/networking/network_context.hpp"
#include "service/networking/network_ports.hpp"
#include "service/networks.hpp"
#include "service/xml/network_status.hpp"
#include "virtbus/driver.hpp"

namespace virtbus {

/// What is stored of a network.
struct NetworkDefinition {
    std::string path;  ///< of its file
    std::string text;  ///< what that holds
    NetworkConfig config;
    std::string problem;  ///< why it cannot be used; "" when it can
};

/// One life of a network, from the first thing made to the last one undone.
struct LiveNetwork {
    LiveNetwork(Loop& loop, const std::string& words) : driver_lane{loop, words} {}
    NetworkConfig config;                     ///< as it runs, without counts of guests
    std::unique_ptr<RunningNetwork> running;  ///< null while it is started
    std::string driver_state;
    bool started = false;  ///< its start came to its end and no stop has begun: what a later daemon takes up
    bool going = false;    ///< no guest comes to it any more
    PortTable table;
    Lane driver_lane;  ///< one change at a time
};
using LiveNetworkPtr = std::shared_ptr<LiveNetwork>;

/// A guest's place, and what its link has to be.
struct Attachment {
    LiveNetworkPtr live;
    NetworkPort port;
    Interface resolved;  ///< for whoever makes links
    Interface shown;     ///< for the guest's live definition
};

class VirtualNetwork final : public Network,
                             public std::enable_shared_from_this<VirtualNetwork>,
                             private NetworkEvents {
public:
    VirtualNetwork(NetworkContext& context, std::string uuid, std::string name);

    // ---- Network
    const NetworkView& view() const override { return view_; }
    std::string xml(bool inactive) const override;
    std::vector<DhcpLease> leases(const std::string& mac) const override;
    JobPtr start(Caller caller) override;
    JobPtr stop(Caller caller) override;
    JobPtr set_autostart(bool autostart, Caller caller) override;
    JobPtr undefine(Caller caller) override;
    JobPtr update(NetworkUpdate update, ChangeScope scope, bool force, Caller caller) override;

    // ---- for the list of networks
    /// False while it is being made and once it is gone: nobody finds it.
    bool listed() const { return listed_; }
    Lane& lane() { return lane_; }
    bool active() const { return live_ != nullptr; }
    const NetworkDefinition* definition() const { return definition_ ? &*definition_ : nullptr; }
    /// Takes what was found on disk, without telling anybody.
    void load(NetworkDefinition definition, bool autostart);
    void list_silently() { listed_ = true; }
    /// Stores the definition (the lane must be held); a network that was being made becomes visible.
    Task<> store(NetworkConfig config);
    /// Starts it (the lane must be held); one that was being made becomes visible with that. A start that fails leaves
    /// no trace.
    Task<> launch(JobPtr job, NetworkConfig config);
    void require_startable() const;
    /// Takes up, or takes down, what an earlier daemon left; ends its errors.
    Task<> adopt(NetworkStatus status);
    /// That name is taken by what it has or is about to have.
    bool has_bridge(const std::string& name) const;
    std::string bridge_name() const;
    void claim_bridge(std::string name) { claimed_bridge_ = std::move(name); }
    /// The addresses of the host that it has, or is about to have.
    std::vector<IpNet> nets_in_use() const;

    // ---- for the links of guests
    /// Gives a guest a place with all that belongs to it, on record before this returns. InvalidState when it is not
    /// active.
    Task<Attachment> attach(LinkRequest request, Deadline deadline);
    /// The same for a guest that has its link already; nothing when it is not active.
    Task<std::optional<Attachment>> attach_again(std::string port_id, LinkRequest request, Deadline deadline);
    /// InvalidState when it was stopped since.
    void require_on(const Attachment& attachment) const;
    /// One that is gone already is no error.
    Task<> release(std::string port_id);
    /// The places nobody has are given up. Never throws.
    Task<> drop_dead_ports();

private:
    // ---- NetworkEvents
    void state_moved() override;
    void leases_changed() override {}
    void problem_changed(std::string problem) override;

    // ---- state, kept in step: the record first, then the audience
    void show();
    NetworkView described() const;
    void save_state(const LiveNetwork& live) const;
    void save_if_live(const LiveNetworkPtr& live) const;
    void vanish();
    std::string problem() const;
    std::string words() const;  ///< "network 'lan'"
    void log(Priority priority, const std::string& message, std::string_view message_id = {}) const;
    void require_listed() const;
    void require_stored(std::string_view verb) const;
    NetworkDriver& require_driver() const;

    JobPtr begin(std::string operation, std::string action, Caller caller,
                 std::function<Task<>(VirtualNetwork&, JobPtr)> work);
    Task<> do_start(JobPtr job);
    Task<> try_launch(JobPtr job, NetworkConfig config);
    Task<> bring_up(JobPtr job, LiveNetworkPtr live, Deadline deadline);
    Task<> give_up_start(LiveNetworkPtr live);
    Task<> name_functions(LiveNetworkPtr live, Deadline deadline);
    Task<> do_stop(JobPtr job);
    Task<> take_down(LiveNetworkPtr live);
    Task<> clear_leftover();
    Task<> undo_record(NetworkStatus status);
    Task<> take_up(NetworkStatus status);
    Task<> do_set_autostart(JobPtr job, bool autostart);
    Task<> do_undefine(JobPtr job);

    struct UpdatePlan;
    Task<> do_update(JobPtr job, NetworkUpdate update, ChangeScope scope, bool force);
    void check_live_update(const UpdatePlan& plan, bool force) const;
    Task<> update_live(LiveNetworkPtr live, NetworkConfig config);
    Task<> update_stored(NetworkConfig config);

    Task<Attachment> settle(LiveNetworkPtr live, NetworkPort port, Interface asked, Interface merged,
                            Deadline deadline);
    Task<> release_from(LiveNetworkPtr live, std::string port_id);

    NetworkContext& context_;
    NetworkView view_;
    Lane lane_;
    std::optional<NetworkDefinition> definition_;
    LiveNetworkPtr live_, starting_;
    std::optional<NetworkStatus> leftover_;  ///< what could be neither taken up nor taken down
    std::string leftover_reason_;
    std::string claimed_bridge_;
    bool listed_ = false;
};
using VirtualNetworkPtr = std::shared_ptr<VirtualNetwork>;

}  // namespace virtbus
