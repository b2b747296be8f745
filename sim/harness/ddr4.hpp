// DDR4 behind the HP ports of a Zynq UltraScale+: a Memory that decides when bytes move by the
// DRAM's timing rules. Written from JESD79-4; what is assumed is listed in sim/memory.py.
//
//   port -> request path -> [controller ports: round robin] -> queues -> DRAM -> controller port
//   (16 B at its own clock, shared by HP1 and HP2) -> return path -> port, in order
//
// Time is counted in DRAM clocks; clocks in which nothing can happen are skipped.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "ddr4_controller.hpp"
#include "ddr4_port.hpp"

namespace sim {

class Ddr4Memory final : public Memory {
 public:
  /// `fabric_khz` is the clock of the ports, whose cycles `tick` counts. `every_clock` skips no
  /// clock: the same, slower, for a test of the skipping.
  Ddr4Memory(const Ddr4Parameters& parameters, uint32_t fabric_khz, bool every_clock = false)
      : p_(parameters), fabric_khz_(fabric_khz), every_clock_(every_clock),
        controller_(p_, statistics_) {
    for (int port = 0; port < kHighPerformancePorts; ++port) {
      lanes_[false].emplace_back(p_, nullptr);
      lanes_[true].emplace_back(p_, &link_free_[true][p_.controller_port[port]]);
    }
  }

  void submit(Request& request, uint64_t /*cycle*/) override {
    lanes_[request.write][request.port].submit(request, now_);
    wake_ = now_;
  }

  void tick(uint64_t /*cycle*/) override {
    uint64_t until = now_;
    for (phase_ += p_.clock_khz; phase_ >= fabric_khz_; phase_ -= fabric_khz_) ++until;
    run(until);
    for (int port = 0; port < kHighPerformancePorts; ++port) {
      const auto first = [&](uint64_t submitted) { record(port, submitted); };
      if (lanes_[false][port].deliver(now_, first)) wake_ = now_;
      if (lanes_[true][port].deliver(now_, [](uint64_t) {})) wake_ = now_;
    }
  }

  void reset() override {
    controller_.reset();
    for (auto& lanes : lanes_)
      for (Lane& lane : lanes) lane.reset();
    for (Turn& turn : turns_) turn.holder = -1;
    wake_ = now_;
  }

  Ddr4Statistics statistics() const {
    Ddr4Statistics result = statistics_;
    result.clocks = now_ - 1;
    return result;
  }

 private:
  /// Whose burst goes into the controller.
  struct Turn {
    int holder = -1;
    int last_link = 0;                                // controller port
    std::array<int, kHighPerformancePorts> last = {};  // HP port, by controller port
  };

  void run(uint64_t until) {
    while (now_ < until) {
      if (now_ >= wake_ || every_clock_) {
        const uint64_t arrival = std::min(admit(false), admit(true));
        const Served served = controller_.step(now_);
        if (served.data && !served.write) give_back(served);
        wake_ = std::min(arrival, controller_.wake());
      }
      now_ = std::min(until, every_clock_ ? now_ + 1 : std::max(wake_, now_ + 1));
    }
  }

  /// Moves accesses into the controller while it has room. Returns when the next one will be there.
  uint64_t admit(bool write) {
    Turn& turn = turns_[write];
    while (controller_.room(write)) {
      if (turn.holder < 0 && !next_turn(write)) return earliest_arrival(write);
      const int port = turn.holder;
      Lane& lane = lanes_[write][port];
      const uint64_t address = lane.next_address();
      bool ended;
      const uint32_t number = lane.take(ended);
      controller_.push(address, write, number * kHighPerformancePorts + port);
      if (write) lane.schedule(now_ + p_.return_clocks);  // answered when queued
      if (ended) turn.holder = -1;
    }
    return ~0ull;  // a served access makes room, and the clock after it looks again
  }

  /// Gives the turn to the next controller port, and there to the next HP port, that has a burst.
  bool next_turn(bool write) {
    Turn& turn = turns_[write];
    for (int i = 1; i <= kHighPerformancePorts; ++i) {
      const int link = (turn.last_link + i) % kHighPerformancePorts;
      for (int j = 1; j <= kHighPerformancePorts; ++j) {
        const int port = (turn.last[link] + j) % kHighPerformancePorts;
        if (static_cast<int>(p_.controller_port[port]) != link) continue;
        if (lanes_[write][port].arrival() > now_) continue;
        turn.holder = turn.last[link] = port;
        turn.last_link = link;
        return true;
      }
    }
    return false;
  }

  uint64_t earliest_arrival(bool write) {
    uint64_t earliest = ~0ull;
    for (Lane& lane : lanes_[write]) earliest = std::min(earliest, lane.arrival());
    return earliest;
  }

  /// Read data reach the controller port; what is in order leaves it.
  void give_back(const Served& served) {
    const int port = served.token % kHighPerformancePorts;
    Lane& lane = lanes_[false][port];
    lane.access(served.token / kHighPerformancePorts).time = served.end;
    uint64_t& free = link_free_[false][p_.controller_port[port]];
    for (const Lane::Access* next; (next = lane.unscheduled()) && next->time;) {
      free = std::max(free, next->time) + p_.access_clocks;
      lane.schedule(free + p_.return_clocks);
    }
  }

  void record(int port, uint64_t submitted) {
    const uint64_t latency = now_ - submitted;
    ++statistics_.bursts[port];
    statistics_.latency_sum[port] += latency;
    statistics_.latency_max[port] = std::max(statistics_.latency_max[port], latency);
  }

  const Ddr4Parameters p_;
  const uint32_t fabric_khz_;
  const bool every_clock_;
  Ddr4Statistics statistics_{};
  Controller controller_;
  uint64_t link_free_[2][kHighPerformancePorts] = {};  // reads, writes; by controller port
  std::vector<Lane> lanes_[2];                         // reads, writes; by HP port
  Turn turns_[2];
  uint64_t now_ = 1, wake_ = 1, phase_ = 0;
};

}  // namespace sim
