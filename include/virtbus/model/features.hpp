// SPDX-License-Identifier: LGPL-2.1-or-later
// <features>: what the machine offers beside its devices.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "virtbus/model/basics.hpp"

namespace virtbus {

/// A feature that is there, with or without saying state='on|off'. Absent = std::nullopt around it.
struct Feature {
    std::optional<bool> state;
    Unknown unknown;

    bool on() const { return state.value_or(true); }
    bool operator==(const Feature&) const = default;
};

struct HypervSpinlocks {
    std::optional<bool> state;
    std::optional<std::uint32_t> retries;
    Unknown unknown;
    bool operator==(const HypervSpinlocks&) const = default;
};

struct HypervStimer {
    std::optional<bool> state;
    std::optional<Feature> direct;
    Unknown unknown;
    bool operator==(const HypervStimer&) const = default;
};

struct HypervTlbflush {
    std::optional<bool> state;
    std::optional<Feature> direct, extended;
    Unknown unknown;
    bool operator==(const HypervTlbflush&) const = default;
};

struct HypervVendorId {
    std::optional<bool> state;
    std::string value;
    Unknown unknown;
    bool operator==(const HypervVendorId&) const = default;
};

struct HypervFeatures {
    std::string mode;  ///< custom, passthrough, host-model; "" = custom
    std::optional<Feature> relaxed, vapic;
    std::optional<HypervSpinlocks> spinlocks;
    std::optional<Feature> vpindex, runtime, synic;
    std::optional<HypervStimer> stimer;
    std::optional<Feature> reset;
    std::optional<HypervVendorId> vendor_id;
    std::optional<Feature> frequencies, reenlightenment;
    std::optional<HypervTlbflush> tlbflush;
    std::optional<Feature> ipi, evmcs, avic, emsr_bitmap, xmm_input;
    Unknown unknown;
    bool operator==(const HypervFeatures&) const = default;
};

struct KvmDirtyRing {
    std::optional<bool> state;
    std::optional<std::uint32_t> size;
    Unknown unknown;
    bool operator==(const KvmDirtyRing&) const = default;
};

struct KvmFeatures {
    std::optional<Feature> hidden, hint_dedicated, poll_control, pv_ipi;
    std::optional<KvmDirtyRing> dirty_ring;
    Unknown unknown;
    bool operator==(const KvmFeatures&) const = default;
};

struct XenPassthrough {
    std::optional<bool> state;
    std::string mode;
    Unknown unknown;
    bool operator==(const XenPassthrough&) const = default;
};

struct XenFeatures {
    std::optional<Feature> e820_host;
    std::optional<XenPassthrough> passthrough;
    Unknown unknown;
    bool operator==(const XenFeatures&) const = default;
};

struct ApicFeature {
    std::optional<bool> eoi;
    Unknown unknown;
    bool operator==(const ApicFeature&) const = default;
};

struct SmmFeature {
    std::optional<bool> state;
    std::optional<std::uint64_t> tseg;  ///< bytes
    Unknown unknown;

    bool on() const { return state.value_or(true); }
    bool operator==(const SmmFeature&) const = default;
};

struct GicFeature {
    std::string version;  ///< host, 2, 3; "" = the host's best
    Unknown unknown;
    bool operator==(const GicFeature&) const = default;
};

struct TcgFeatures {
    std::optional<std::uint64_t> tb_cache;  ///< bytes
    Unknown unknown;
    bool operator==(const TcgFeatures&) const = default;
};

struct HptFeature {
    std::string resizing;
    std::optional<std::uint64_t> maxpagesize;
    Unknown unknown;
    bool operator==(const HptFeature&) const = default;
};

struct Features {
    std::optional<Feature> acpi;
    std::optional<ApicFeature> apic;
    std::optional<Feature> pae, hap, viridian, privnet;
    std::optional<HypervFeatures> hyperv;
    std::optional<KvmFeatures> kvm;
    std::optional<XenFeatures> xen;
    std::optional<Feature> pvspinlock, pmu, vmport, ps2;
    std::optional<SmmFeature> smm;
    std::optional<GicFeature> gic;
    std::string ioapic_driver;  ///< kvm, qemu
    std::optional<HptFeature> hpt;
    std::optional<Feature> vmcoreinfo, htm, nested_hv, ccf_assist, ras, async_teardown;
    std::string msrs_unknown;  ///< ignore, fault
    std::string cfpc, sbbc, ibs;
    std::optional<TcgFeatures> tcg;
    std::string aia;  ///< none, aplic, aplic-imsic
    Unknown unknown;
    bool operator==(const Features&) const = default;
};

}  // namespace virtbus
