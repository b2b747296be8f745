// What a DDR4 memory is (sim/memory.py says where each value comes from) and what it counted.
// sim/binding.py mirrors both structures.
#pragma once

#include <cstdint>

namespace sim {

constexpr int kHighPerformancePorts = 4;
constexpr unsigned kAccessBytes = 64;  // eight transfers of 64 bits (BL8)

/// Times in DRAM clocks, named as in JESD79-4 section 13; address fields as lowest bit and width.
struct Ddr4Parameters {
  uint32_t clock_khz;
  uint32_t cl, cwl, trcd, trp, tras, trfc, trefi, trrd_s, trrd_l, tfaw, tccd_s, tccd_l, twr, trtp,
      twtr_s, twtr_l, burst_clocks;
  uint32_t group_low, group_bits, bank_low, bank_bits, row_low, row_bits;
  uint32_t read_queue, write_queue, bank_window, write_high, write_low, write_idle, row_hits_max;
  uint32_t request_clocks;  // from a port's pins to the controller
  uint32_t return_clocks;   // and back
  uint32_t access_clocks;   // of one access on a controller port
  uint32_t outstanding;     // bursts in flight of one HP port, by direction
  uint32_t burst_bytes;     // an HP port cuts longer bursts
  uint32_t controller_port[kHighPerformancePorts];
};

struct Ddr4Statistics {
  uint64_t clocks;  // DRAM clocks since the start
  uint64_t reads, writes;  // accesses of kAccessBytes
  uint64_t row_hits, row_misses, row_conflicts;
  uint64_t refreshes, turnarounds;
  uint64_t busy_clocks;  // the data bus carried data
  uint64_t bursts[kHighPerformancePorts];
  uint64_t latency_sum[kHighPerformancePorts];  // from a read burst's address to its first bytes
  uint64_t latency_max[kHighPerformancePorts];
};

}  // namespace sim
