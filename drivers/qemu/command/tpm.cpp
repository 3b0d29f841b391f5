// SPDX-License-Identifier: LGPL-2.1-or-later
// TPMs: the host's own, one of an emulator that runs already, and one of an emulator of ours (qemu/helpers/tpm.hpp).
#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "qemu/command/families.hpp"
#include "virtbus/error.hpp"

namespace virtbus::qemu {

namespace {

[[noreturn]] void refuse(const Tpm& tpm, const std::string& why) {
    throw Error{Code::unsupported_configuration, fmt::format("tpm {}: {}", tpm.model, why)};
}

void require_servable(const Tpm& tpm) {
    const TpmBackend& backend = tpm.backend;
    const bool old = backend.version == "1.2";
    if (tpm.model == "spapr-tpm-proxy" && backend.type != "passthrough")
        refuse(tpm, fmt::format("a back end of type '{}' is not for it; type 'passthrough' is", backend.type));
    if (backend.type == "external" && (!backend.source || backend.source->path.empty()))
        refuse(tpm, "a back end of type 'external' needs <source type='unix' mode='connect' path=>");
    if (backend.type != "emulator") return;
    if (old && tpm.model == "tpm-crb") refuse(tpm, "version 1.2 is for model 'tpm-tis' only");
    if (old && (backend.sha1 || backend.sha256 || backend.sha384 || backend.sha512))
        refuse(tpm, "<active_pcr_banks> are of version 2.0");
    if (backend.source && backend.source->type == "unix")
        refuse(tpm, "<source type='unix'> is for the back end 'external'");
    if (backend.source && !backend.source->path.starts_with('/'))
        refuse(tpm, "the path of its <source> is not absolute");
}

void add_host_tpm(Argv& line, const Tpm& tpm, const std::string& id) {
    KeyValues back{"passthrough"};
    back.add("id", id);
    if (auto* file = line.find("tpm:" + tpm.info.alias)) {
        back.add("path", line.fdset(*file));
        if (auto* cancel = line.find("tpm:" + tpm.info.alias + "/cancel")) back.add("cancel-path", line.fdset(*cancel));
    } else {
        back.add("path", host_tpm_path(tpm));
    }
    line.arg("-tpmdev", back);
}

void add_emulated_tpm(Argv& line, const Tpm& tpm, const std::string& id) {
    KeyValues control{"socket"};
    control.add("id", "chrtpm");
    if (auto* file = line.find("tpm:" + tpm.info.alias))
        control.add("fd", line.give(std::move(file->fd)));
    else
        control.add("path", tpm.backend.type == "external" ? tpm.backend.source->path : "swtpm.sock");
    line.arg("-chardev", control);
    line.arg("-tpmdev", KeyValues{"emulator"}.add("id", id).add("chardev", "chrtpm"));
}

void add_tpm(Argv& line, const Tpm& tpm) {
    require_servable(tpm);
    if (line.runnable()) return;
    Json device;
    // On machines without ISA it is called otherwise.
    const bool sysbus = tpm.model == "tpm-tis" && !line.capabilities.has_device("tpm-tis") &&
                        line.capabilities.has_device("tpm-tis-device");
    device.set("driver", sysbus ? "tpm-tis-device" : tpm.model);
    if (tpm.model == "spapr-tpm-proxy") {
        device.set("host-path", host_tpm_path(tpm));
        line.out.devices.push_back(host_tpm_path(tpm));
    } else {
        const std::string id = "tpm-" + tpm.info.alias;
        if (tpm.backend.type == "passthrough")
            add_host_tpm(line, tpm, id);
        else
            add_emulated_tpm(line, tpm, id);
        device.set("tpmdev", id);
    }
    line.place(device, tpm.info);
    line.device(std::move(device), tpm.info.alias);
}

}  // namespace

std::string host_tpm_path(const Tpm& tpm) {
    if (!tpm.backend.device_path.empty()) return tpm.backend.device_path;
    return tpm.model == "spapr-tpm-proxy" ? "/dev/tpmrm0" : "/dev/tpm0";
}

void add_tpms(Argv& line) {
    const auto& tpms = line.config.devices.tpms;
    const auto proxy = [](const Tpm& tpm) { return tpm.model == "spapr-tpm-proxy"; };
    if (std::ranges::count_if(tpms, proxy) > 1 || std::ranges::count_if(tpms, std::not_fn(proxy)) > 1)
        throw Error{Code::unsupported_configuration,
                    "a machine has at most one TPM (and one spapr-tpm-proxy beside it)"};
    for (const auto& tpm : tpms) add_tpm(line, tpm);
}

}  // namespace virtbus::qemu
