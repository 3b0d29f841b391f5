// SPDX-License-Identifier: LGPL-2.1-or-later
// What the attributes of a network filter's rules may say: which of them a protocol has, of what type each is, and its
// one spelling for drivers. Variables have been replaced before.
#pragma once

#include <string>
#include <string_view>

namespace virtbus {

struct FilterField;

/// Nothing when the protocol has no such attribute.
const FilterField* find_field(std::string_view protocol, std::string_view attribute);
/// Its usual spelling.
std::string name_of(const FilterField& field);
/// "srcmacaddr, dstmacaddr, ...", for messages.
std::string fields_of(std::string_view protocol);

/// The value as drivers get it: numbers decimal, MAC addresses in lower case, masks as addresses, "syn,ack/syn" for TCP
/// flags, "new,established" for states. InvalidXML, saying what is allowed.
std::string plain_value(const FilterField& field, std::string_view text);
/// An IPv4 address can stand there, so it can be one that is learned.
bool takes_ipv4(const FilterField& field);
/// A text for people, where a dollar sign means nothing.
bool is_comment(const FilterField& field);

}  // namespace virtbus
