// SPDX-License-Identifier: LGPL-2.1-or-later
// The domains that exist: found by uuid or name, listed in uuid order, defined, created, loaded at start. What a single
// domain does is domain.hpp's work.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "service/domain.hpp"

namespace virtbus {

struct DefineOptions {
    bool validate = false;  ///< what is not understood is an error
};
struct CreateOptions {
    StartOptions start;
    bool validate = false;
};

struct RestoreOptions {
    std::string xml;  ///< replaces the image's definition; "" = that
    bool running = false, paused = false, bypass_cache = false, reset_nvram = false;
};

/// An opened save image: what it says it is. The rest is between those who open and restore it.
class SavedDomain {
public:
    virtual ~SavedDomain() = default;
    std::string name, uuid, driver;
    /// This service wrote its header as it is; otherwise the definition in it is the caller's own.
    bool sealed = false;
};
using SavedDomainPtr = std::shared_ptr<SavedDomain>;

/// What CheckDomain answers.
struct CheckResult {
    std::string xml;                       ///< as it would be stored
    std::vector<std::string> unknown;      ///< not understood, kept
    std::vector<std::string> unsupported;  ///< what this host cannot do
    std::vector<std::string> command;
    std::vector<std::string> ignored;  ///< understood, and without effect here
};

/// A variable store that no domain names any more.
struct OrphanedStore {
    std::string path;
    std::string domain;      ///< the name of the one it was made for; "" when that is not on record
    std::uint64_t size = 0;  ///< bytes
};

/// The list and the verbs that make domains.
class Domains {
public:
    virtual ~Domains() = default;

    virtual DomainPtr find(std::string_view uuid) const = 0;
    virtual DomainPtr find_by_name(std::string_view name) const = 0;
    /// Name first, then uuid in any of its spellings; NoSuchDomain.
    virtual DomainPtr get(std::string_view name_or_uuid) const = 0;
    /// In uuid order, those after `after` ("" = from the start); at most `limit` (0 = all).
    virtual std::vector<DomainPtr> list(std::string_view after = {}, std::size_t limit = 0) const = 0;
    virtual std::size_t size() const = 0;

    /// What an XML text says it is, before anybody is asked for permission: name, uuid and driver (InvalidXML).
    struct Identity {
        std::string name, uuid, driver;
    };
    virtual Identity identify(std::string_view xml) const = 0;

    virtual Task<DomainPtr> define(std::string xml, DefineOptions options, Caller caller) = 0;
    virtual Task<DomainPtr> create(std::string xml, CreateOptions options, Caller caller) = 0;
    /// Opens the file with the caller's rights and reads its header.
    virtual Task<SavedDomainPtr> open_saved(std::string file, Caller caller) = 0;
    /// Starts what it holds under its own name and UUID; the job has begun.
    virtual JobPtr restore(SavedDomainPtr saved, RestoreOptions options, Caller caller) = 0;
    virtual Task<CheckResult> check(std::string xml, bool runnable) = 0;

    virtual Task<std::map<std::string, TimedStats>> stats(std::vector<std::string> groups,
                                                          std::vector<std::string> states) = 0;
    /// Stores in the state folder that no domain has: what transient domains leave, and undefined ones that kept it.
    virtual Task<std::vector<OrphanedStore>> orphaned_nvram() = 0;
    /// InvalidArgs, saying why, for what that list does not have.
    virtual Task<> delete_orphaned_nvram(std::string path) = 0;

    virtual std::vector<std::string> drivers() const = 0;
    virtual Task<std::string> capabilities(std::string driver) = 0;
    virtual Task<std::string> domain_capabilities(std::string driver, std::string emulator, std::string arch,
                                                  std::string machine) = 0;
};

}  // namespace virtbus
