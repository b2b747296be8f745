// The shape of the simulated design; the build passes the macros.
#pragma once

#include <cstdint>

namespace sim {

constexpr int kPorts = KRIA_PORTS;
constexpr unsigned kPortBytes = KRIA_PORT_BYTES;
constexpr unsigned kBurstBeats = KRIA_BURST_BEATS;
constexpr unsigned kOutstanding = KRIA_OUTSTANDING;

/// AxSIZE of a full beat.
constexpr unsigned kSize = kPortBytes == 16 ? 4 : kPortBytes == 8 ? 3 : 2;

/// Bursts that a port takes in: more than the design may send, so that sending too many is seen,
/// and as many again of another ID, whose answers the design has given up.
constexpr unsigned kCapacity = 2 * kOutstanding + 4;

/// What the ports counted; the caller's mirror is sim/device.py.
struct Statistics {
  uint64_t bytes_read[4];
  uint64_t read_bursts[4];
  uint64_t bytes_written;
  uint64_t write_bursts;
  uint64_t read_outstanding_max;
  uint64_t write_outstanding_max;
  uint64_t error_responses;
  uint64_t last_activity;  // cycle of the last handshake on any AXI port
};

}  // namespace sim
