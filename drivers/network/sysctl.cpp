// SPDX-License-Identifier: LGPL-2.1-or-later
#include "network/sysctl.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "virtbus/error.hpp"
#include "virtbus/fd.hpp"

namespace virtbus::network {

namespace {

constexpr std::string_view settings_folder = "/proc/sys/";

bool is_absent(int error) {
    return error == ENOENT || error == ENOTDIR;
}

/// Turning a switch resets the same setting of every device, and IPv4's redirects.
struct Family {
    const char* name;
    std::string key;      ///< in the record
    std::string folder;   ///< what its settings begin with
    std::string devices;  ///< where each device has a folder
    std::string turn;     ///< the switch
};
const Family& family(bool ipv6) {
    static const Family four{"IPv4", "ipv4", "net/ipv4/", "net/ipv4/conf/", "net/ipv4/ip_forward"};
    static const Family six{"IPv6", "ipv6", "net/ipv6/", "net/ipv6/conf/", "net/ipv6/conf/all/forwarding"};
    return ipv6 ? six : four;
}

const std::string redirects = "net/ipv4/conf/all/accept_redirects";
constexpr std::string_view accept_ra = "/accept_ra";
constexpr std::string_view first_line = "virtbus forwarding 1";
constexpr std::string_view off = "0";

/// What the record keeps on a line of its own has no end of line in it.
std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text)
        if (c == '%' || c == '\n')
            out += fmt::format("%{:02x}", static_cast<unsigned char>(c));
        else
            out += c;
    return out;
}
std::string unescaped(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool coded = text.compare(i, 3, "%25") == 0 || text.compare(i, 3, "%0a") == 0;
        out += !coded ? text[i] : text[i + 1] == '2' ? '%' : '\n';
        if (coded) i += 2;
    }
    return out;
}

/// What will be another value than now once the switch is turned, and what keeps the host's own routers.
std::map<std::string, std::string> settings_in_reach(const Family& it, const std::string& turned) {
    std::map<std::string, std::string> found{{it.turn, turned}};
    if (it.folder == family(false).folder)
        if (const auto value = read_setting(redirects)) found[redirects] = *value;
    std::error_code error;
    const auto folder = std::string{settings_folder} + it.devices;
    for (const auto& entry : std::filesystem::directory_iterator{folder, error}) {
        const auto device = entry.path().filename().string();
        const auto forwarding = read_setting(it.devices + device + "/forwarding");
        if (device == "all" || !forwarding) continue;
        if (*forwarding != turned) {
            found[it.devices + device + "/forwarding"] = *forwarding;
            continue;
        }
        if (device == "default" || device == "lo") continue;
        const auto setting = it.devices + device + std::string{accept_ra};
        if (read_setting(setting) == "1") found[setting] = "1";
    }
    return found;
}

[[noreturn]] void fail(const std::string& doing, const std::string& setting, int error) {
    const bool forbidden = error == EPERM || error == EACCES || error == EROFS;
    throw Error{forbidden ? Code::access_denied : Code::hypervisor_failed,
                fmt::format("{} {}{}: {}", doing, settings_folder, setting, std::strerror(error))};
}

}  // namespace

std::optional<std::string> read_setting(const std::string& setting) {
    const Fd file{::open((std::string{settings_folder} + setting).c_str(), O_RDONLY | O_CLOEXEC)};
    if (!file && is_absent(errno)) return std::nullopt;
    std::array<char, 4096> text;
    const auto size = file ? ::read(file.get(), text.data(), text.size()) : -1;
    if (size < 0) fail("reading", setting, errno);
    std::string value{text.data(), static_cast<std::size_t>(size)};
    if (value.ends_with('\n')) value.pop_back();
    return value;
}

bool write_setting(const std::string& setting, const std::string& value) {
    const Fd file{::open((std::string{settings_folder} + setting).c_str(), O_WRONLY | O_CLOEXEC)};
    if (!file && is_absent(errno)) return false;
    const auto line = value + "\n";
    if (!file || ::write(file.get(), line.data(), line.size()) < 0)
        fail(fmt::format("writing {} to", value), setting, errno);
    return true;
}

Forwarding::Forwarding(std::string record) : path_{std::move(record)} {
    load();
}

void Forwarding::hold(const std::string& network, bool ipv4, bool ipv6) {
    const std::scoped_lock lock{mutex_};
    const auto before = record_;
    const auto set = [&network](std::set<std::string>& list, bool wanted) {
        wanted ? void(list.insert(network)) : void(list.erase(network));
    };
    try {
        set(record_.ipv4, ipv4);
        set(record_.ipv6, ipv6);
        if (ipv4) need(false);
        if (ipv6) need(true);
        if (record_.ipv4.empty()) put_back(false);
        if (record_.ipv6.empty()) put_back(true);
        save();
    } catch (const Error&) {
        record_.ipv4 = before.ipv4;
        record_.ipv6 = before.ipv6;
        try {
            if (record_.ipv4.empty()) put_back(false);
            if (record_.ipv6.empty()) put_back(true);
            save();
        } catch (const Error&) {
            // What failed first is what has to be told.
        }
        throw;
    }
}

void Forwarding::release(const std::string& network) {
    const std::scoped_lock lock{mutex_};
    if (record_.ipv4.erase(network) + record_.ipv6.erase(network) == 0) return;
    save();
    if (record_.ipv4.empty()) put_back(false);
    if (record_.ipv6.empty()) put_back(true);
    save();
}

void Forwarding::need(bool ipv6) {
    const auto& it = family(ipv6);
    const auto now = read_setting(it.turn);
    if (!now) throw Error{Code::unsupported_configuration, fmt::format("this host's kernel has no {}", it.name)};
    if (*now != off) return;
    // The oldest value that is known is the host's own.
    record_.before.merge(settings_in_reach(it, *now));
    save();
    for (const auto& [setting, value] : record_.before)
        if (setting.starts_with(it.devices) && setting.ends_with(accept_ra)) write_setting(setting, "2");
    write_setting(it.turn, "1");
}

/// What somebody else has set meanwhile stays.
void Forwarding::put_back(bool ipv6) {
    const auto& it = family(ipv6);
    if (const auto turn = record_.before.find(it.turn); turn != record_.before.end()) {
        const auto now = read_setting(it.turn);
        const bool ours = now && *now != off;
        if (ours) write_setting(it.turn, turn->second);
        for (const auto& [setting, value] : record_.before) {
            if (!setting.starts_with(it.folder) || setting == it.turn) continue;
            if (setting.ends_with(accept_ra) ? read_setting(setting) == "2" : ours) write_setting(setting, value);
        }
    }
    std::erase_if(record_.before, [&it](const auto& each) { return each.first.starts_with(it.folder); });
}

void Forwarding::load() {
    std::ifstream file{path_};
    std::string line;
    if (!std::getline(file, line) || line != first_line) return;
    while (std::getline(file, line)) {
        const auto blank = line.find(' ');
        if (blank == line.npos) continue;
        const auto key = line.substr(0, blank);
        const auto rest = line.substr(blank + 1);
        if (key == family(false).key) record_.ipv4.insert(unescaped(rest));
        if (key == family(true).key) record_.ipv6.insert(unescaped(rest));
        const auto end = rest.find(' ');
        if (key != "before" || end == rest.npos || rest.find("..") != rest.npos) continue;
        record_.before[rest.substr(0, end)] = rest.substr(end + 1);
    }
}

void Forwarding::save() const {
    if (record_.ipv4.empty() && record_.ipv6.empty() && record_.before.empty()) {
        (void)std::remove(path_.c_str());
        return;
    }
    std::string text = fmt::format("{}\n", first_line);
    for (const auto& network : record_.ipv4) text += fmt::format("{} {}\n", family(false).key, escaped(network));
    for (const auto& network : record_.ipv6) text += fmt::format("{} {}\n", family(true).key, escaped(network));
    for (const auto& [setting, value] : record_.before) text += fmt::format("before {} {}\n", setting, value);
    const auto temporary = path_ + ".new";
    std::ofstream file{temporary, std::ios::trunc};
    file << text;
    file.close();
    if (!file || std::rename(temporary.c_str(), path_.c_str()) != 0)
        throw Error{Code::hypervisor_failed, fmt::format("recording the settings of the host that networks change in "
                                                         "{}: {}",
                                                         path_, std::strerror(errno))};
}

}  // namespace virtbus::network
