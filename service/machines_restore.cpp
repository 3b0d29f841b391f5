// SPDX-License-Identifier: LGPL-2.1-or-later
// RestoreDomain: from an opened save image to a machine that goes on.
#include <fmt/format.h>

#include "service/machines.hpp"
#include "service/names.hpp"
#include "service/saved_file.hpp"
#include "service/xml/domain_xml.hpp"

namespace virtbus {

Task<SavedDomainPtr> Machines::open_saved(std::string file, Caller caller) {
    require_file_name(file);
    auto as = co_await rights_of_caller(context_.ports, caller.uid);
    auto saved = co_await open_saved_file(context_.ports, std::move(file), std::move(as));
    require_complete(*saved);
    const auto uuid = normal_uuid(saved->uuid);
    if (!uuid)
        throw Error{Code::unsupported, fmt::format("save image {} cannot be used: '{}' in its header is no UUID",
                                                   saved->path, printable(saved->uuid))};
    saved->uuid = *uuid;
    co_return saved;
}

JobPtr Machines::restore(SavedDomainPtr saved, RestoreOptions options, Caller caller) {
    if (options.running && options.paused)
        throw Error{Code::conflicting_options, "'running' and 'paused' exclude each other; give one of them"};
    auto file = std::dynamic_pointer_cast<SavedFile>(saved);
    if (!file) throw Error{Code::internal, "a save image of another service"};
    JobSpec spec;
    spec.operation = "restore";
    spec.domains = {file->uuid};
    spec.action = "domain.start";
    spec.caller = caller;
    spec.publish_now = true;
    return context_.jobs.run(std::move(spec), [this, file, options, caller](JobPtr job) {
        return do_restore(std::move(job), file, options, caller);
    });
}

Task<> Machines::do_restore(JobPtr job, std::shared_ptr<SavedFile> saved, RestoreOptions options, Caller caller) {
    auto [config, unknown] = understand_image(*saved);
    xml::require_name(config.name);
    config.uuid = saved->uuid;
    auto& driver = context_.drivers.get_by_type(config.type);
    if (!options.xml.empty()) {
        config = co_await replacement_definition(driver, options.xml, config);
        unknown.clear();
    }
    const auto place = co_await claim(job, config);
    auto& machine = *place.machine;
    std::exception_ptr error;
    try {
        if (!place.made) machine.require_startable();
        machine.require_no_managed_save("restore");
        if (place.made) machine.appear(config);
    } catch (...) {
        error = std::current_exception();
    }
    if (error && place.made) remove(machine);
    if (error) std::rethrow_exception(error);
    auto incoming = std::make_shared<Incoming>();
    incoming->running = options.running || (saved->image.header.running && !options.paused);
    incoming->bypass_cache = options.bypass_cache;
    incoming->saved = std::move(saved);
    StartOptions start;
    start.reset_nvram = options.reset_nvram;
    co_await machine.launch(std::move(job), std::move(config), std::move(unknown), start, std::move(caller),
                            std::move(incoming));
}

}  // namespace virtbus
