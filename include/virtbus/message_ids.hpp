// SPDX-License-Identifier: LGPL-2.1-or-later
// One MESSAGE_ID for each kind of event in the journal, so that "journalctl MESSAGE_ID=..." finds them whatever the
// words. An id is never used for another kind.
#pragma once

#include <array>
#include <string_view>
#include <utility>

namespace virtbus::message_id {

inline constexpr std::string_view daemon_started{
    "2cc9307b27834f2499561639e490de57"};  ///< the daemon has loaded its objects and serves
inline constexpr std::string_view daemon_stopping{
    "d9ec56cd5f60456b886ffe304bb41ac2"};  ///< the daemon leaves; guests go on
inline constexpr std::string_view domain_defined{
    "ec0fa553432c44ac8f1c9010c3940fe5"};  ///< a definition was stored or replaced
inline constexpr std::string_view domain_undefined{"7fe1717abdb4486ba9de68bd5d797015"};  ///< a definition was removed
inline constexpr std::string_view domain_unreadable{
    "50a0def43a4c42fd9026b5c2b3be5ac2"};  ///< a stored definition cannot be used; it stays listed with the reason
inline constexpr std::string_view domain_started{"e9a1157c58694f4ab0471bea6a136507"};  ///< a guest runs
inline constexpr std::string_view domain_start_failed{
    "c41e71efaecb4f7ca90c12b2b2ad9dbf"};  ///< a guest could not be started
inline constexpr std::string_view domain_stopped{
    "d697c58b987148449e0914d79045ef15"};  ///< a guest ended as asked, or by itself
inline constexpr std::string_view domain_crashed{"e7ca6d90b66b4beba6ca913d4aed7bd6"};  ///< a guest panicked or its process died
inline constexpr std::string_view domain_adopted{
    "656ef6db839745eca80a63b5ba410ccb"};  ///< a running guest was taken up after a restart of the daemon
inline constexpr std::string_view domain_lost{
    "2517ac4cc578469a9b0bc57bf42ad0a5"};  ///< a guest ended while no daemon was there
inline constexpr std::string_view domain_unkillable{
    "79365099f38b438b9147816f529835d9"};  ///< a guest's process does not die
inline constexpr std::string_view domain_unresponsive{
    "5205d9e93a9d4434a883099e04865764"};  ///< a guest's monitor does not answer, or answers again
inline constexpr std::string_view domain_io_error{
    "c99049a77ed047e7bb34314bf5fd9ad5"};  ///< a disk of a guest reported an error
inline constexpr std::string_view watchdog_fired{
    "694bd45ecb9e45e78fbae329bb4fab57"};  ///< the watchdog of a guest fired
inline constexpr std::string_view autostart_failed{
    "d93aae69b6c34f149e36900b58753283"};  ///< an object could not be started at boot
inline constexpr std::string_view network_started{"19988d452ab14c56bc30740a6491ed5c"};  ///< a network is active
inline constexpr std::string_view network_stopped{
    "49f2513e34ab4011af0c9a5611ed7320"};  ///< a network is no longer active
inline constexpr std::string_view network_start_failed{
    "8dd2c4de7aaa4549bf568e0686da987e"};                                           ///< a network could not be started
inline constexpr std::string_view job_failed{"8aa41d2794e04d9cbe3b3ae64f786134"};  ///< a job ended with an error
inline constexpr std::string_view permission_unanswered{
    "4bbb87f8e2994e5a9c8604d7e2b26e79"};  ///< polkit gave no answer, so the call was denied
inline constexpr std::string_view units_plain{
    "4124d0b83b0e4dc3b936f19e2e70e88e"};  ///< guests run without a service manager

inline constexpr std::array all{
    std::pair{std::string_view{"daemon_started"}, daemon_started},
    std::pair{std::string_view{"daemon_stopping"}, daemon_stopping},
    std::pair{std::string_view{"domain_defined"}, domain_defined},
    std::pair{std::string_view{"domain_undefined"}, domain_undefined},
    std::pair{std::string_view{"domain_unreadable"}, domain_unreadable},
    std::pair{std::string_view{"domain_started"}, domain_started},
    std::pair{std::string_view{"domain_start_failed"}, domain_start_failed},
    std::pair{std::string_view{"domain_stopped"}, domain_stopped},
    std::pair{std::string_view{"domain_crashed"}, domain_crashed},
    std::pair{std::string_view{"domain_adopted"}, domain_adopted},
    std::pair{std::string_view{"domain_lost"}, domain_lost},
    std::pair{std::string_view{"domain_unkillable"}, domain_unkillable},
    std::pair{std::string_view{"domain_unresponsive"}, domain_unresponsive},
    std::pair{std::string_view{"domain_io_error"}, domain_io_error},
    std::pair{std::string_view{"watchdog_fired"}, watchdog_fired},
    std::pair{std::string_view{"autostart_failed"}, autostart_failed},
    std::pair{std::string_view{"network_started"}, network_started},
    std::pair{std::string_view{"network_stopped"}, network_stopped},
    std::pair{std::string_view{"network_start_failed"}, network_start_failed},
    std::pair{std::string_view{"job_failed"}, job_failed},
    std::pair{std::string_view{"permission_unanswered"}, permission_unanswered},
    std::pair{std::string_view{"units_plain"}, units_plain},
};

}  // namespace virtbus::message_id
