// SPDX-License-Identifier: LGPL-2.1-or-later
// What the generator makes of an interface file: tables of methods and properties, and its introspection text; and how
// a face tells the engine which objects have it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "virtbus/task.hpp"

namespace virtbus::dbus {

class Call;
class Writer;

struct Method {
    const char* name;
    const char* in;   ///< signature of the arguments
    const char* out;  ///< signature of the answer
    /// Reads the arguments, asks for permission, calls the handler and answers.
    Task<> (*run)(void* handler, Call& call);
};

enum class Emits { changes, invalidation, constant, nothing };

struct Property {
    const char* name;
    const char* signature;
    Emits emits;
    void (*put)(Writer& out, const void* view);
    bool (*same)(const void* view, const void* other);
};

struct Interface {
    const char* name;
    std::span<const Method> methods;
    std::span<const Property> properties;
    std::string_view introspection;

    const Method* method(std::string_view member) const;
    const Property* property(std::string_view member) const;
};

/// An interface of an object, and what Method::run gets as its handler there.
struct Offer {
    const Interface* interface;
    void* handler;
};

/// One row of the permission table: asked for always, or when an option is true.
struct Permission {
    std::string_view interface, method, action, option;
};

/// The elements of an object's path that stand for a `*` in its pattern, as they are spelled in the path.
using Keys = std::vector<std::string>;

/// Objects of one interface: which there are and what they show. Implemented by the faces; keeps no state.
class Kind {
public:
    virtual ~Kind() = default;
    virtual const Interface& interface() const = 0;
    /// What Method::run gets as its handler.
    virtual void* handler() = 0;
    /// The view of the object, nullptr when there is none; good until control goes back to the loop.
    virtual const void* find(const Keys& keys) const = 0;
    /// Calls `each` for every object below `parents`, with its last key and its view.
    virtual void list(const Keys& parents,
                      const std::function<void(std::string_view key, const void* view)>& each) const = 0;
};

}  // namespace virtbus::dbus
