// The memory controller: read and write queues, first-ready scheduling, write batches, refresh.
//
// One command a clock at most. A column command to an open row comes first, then an activate, then
// a precharge, the oldest of each kind (first ready, first come first served). Reads go first; writes
// wait until `write_high` of them are there or no read has come for `write_idle` clocks, and then
// go until `write_low` are left.
#pragma once

#include <cstdint>
#include <vector>

#include "ddr4_banks.hpp"

namespace sim {

/// What a step did to an access.
struct Served {
  bool data = false;  // a read or write command went out
  bool write = false;
  uint32_t token = 0;
  uint64_t end = 0;  // clock after the last data
};

class Controller {
 public:
  Controller(const Ddr4Parameters& parameters, Ddr4Statistics& statistics)
      : p_(parameters), statistics_(statistics), banks_(parameters) {
    for (Queue& queue : queues_) queue.banks.resize(banks_.count());
    for (Queue& queue : queues_)
      for (auto& bank : queue.banks) bank.reserve(queue_size(true) + queue_size(false));
    refresh_due_ = p_.trefi;
  }

  bool room(bool write) const { return queues_[write].size < queue_size(write); }

  /// Takes in an access; the token comes back when it is served.
  void push(uint64_t address, bool write, uint32_t token) {
    const unsigned group = field(address, p_.group_low, p_.group_bits);
    const unsigned bank = field(address, p_.bank_low, p_.bank_bits) << p_.group_bits | group;
    const uint32_t row = field(address, p_.row_low, p_.row_bits);
    queues_[write].banks[bank].push_back({order_++, row, token, false, false});
    queues_[write].occupied |= 1u << bank;
    ++queues_[write].size;
  }

  /// Issues at most one command. Afterwards nothing happens before `wake()` but for a push.
  Served step(uint64_t now) {
    if (now >= refresh_due_) return refresh(now), Served{};
    wake_ = refresh_due_;
    choose_direction(now);
    return schedule(now);
  }
  uint64_t wake() const { return wake_; }

  /// Drops all accesses; the banks stay as they are.
  void reset() {
    for (Queue& queue : queues_) {
      for (auto& bank : queue.banks) bank.clear();
      queue.occupied = queue.size = 0;
    }
  }

 private:
  struct Access {
    uint64_t order;
    uint32_t row, token;
    bool activated, conflict;  // what was done for it
  };
  struct Queue {
    std::vector<std::vector<Access>> banks;
    uint32_t occupied = 0;  // banks with an access, by bit
    uint32_t size = 0;
  };
  /// The oldest access that wants one kind of command now.
  struct Candidate {
    Access* access = nullptr;
    unsigned bank = 0;
    void offer(Access& other, unsigned other_bank) {
      if (access && access->order < other.order) return;
      access = &other;
      bank = other_bank;
    }
  };
  struct Candidates {
    Candidate column, activate, precharge;
  };

  static uint32_t field(uint64_t address, uint32_t low, uint32_t bits) {
    return address >> low & ((1ull << bits) - 1);
  }
  uint32_t queue_size(bool write) const { return write ? p_.write_queue : p_.read_queue; }
  void wake_at(uint64_t time) { wake_ = std::min(wake_, time); }

  void refresh(uint64_t now) {
    const bool closed = banks_.all_closed();
    const uint64_t time = closed ? banks_.refresh_time() : banks_.precharge_all_time();
    wake_ = std::max(time, now + 1);
    if (time > now) return;
    if (!closed) return banks_.precharge_all(now);
    banks_.refresh(now);
    ++statistics_.refreshes;
    refresh_due_ += p_.trefi;
  }

  void choose_direction(uint64_t now) {
    const uint32_t reads = queues_[false].size, writes = queues_[true].size;
    if (reads) read_seen_ = now;
    if (writing_) {
      if (!writes || (reads && writes <= p_.write_low)) writing_ = false;
    } else if (writes && !reads) {
      const uint64_t idle = read_seen_ + p_.write_idle;
      if (turning_ || writes >= p_.write_high || now >= idle) writing_ = true;
      else wake_at(idle);
    } else {
      turning_ |= writes >= p_.write_high;
    }
    turning_ &= !writing_;
  }

  Served schedule(uint64_t now) {
    Candidates found;
    const uint32_t reads = queues_[false].occupied, writes = queues_[true].occupied;
    if (writing_) {
      look_at(writes, true, true, now, found);
      look_at(reads & ~writes, false, false, now, found);
    } else if (turning_) {  // reads go on in other banks until the first write can start
      const uint32_t first = writes & banks_of_oldest(queues_[true]);
      look_at(reads & ~first, false, true, now, found);
      if (look_at(first, true, false, now, found)) writing_ = true;
      if (writing_) return wake_ = now + 1, turning_ = false, Served{};
    } else {
      look_at(reads, false, true, now, found);
    }
    if (found.column.access) return transfer(queues_[writing_], found.column, now);
    if (found.activate.access) {
      found.activate.access->activated = true;
      banks_.activate(found.activate.bank, found.activate.access->row, now);
    } else if (found.precharge.access) {
      found.precharge.access->conflict = true;
      banks_.precharge(found.precharge.bank, now);
    }
    return {};
  }

  /// The next command for each of some banks: a candidate if its time has come, else a reason to
  /// wake up. Without `transfers` banks are only made ready; says whether one is.
  bool look_at(uint32_t banks, bool write, bool transfers, uint64_t now, Candidates& found) {
    bool ready = false;
    for (; banks; banks &= banks - 1) {
      const unsigned bank = __builtin_ctz(banks);
      auto& waiting = queues_[write].banks[bank];
      const bool closed = banks_.row(bank) == Banks::kClosed;
      const int hit = closed ? -1 : find_hit(waiting, bank);
      const uint64_t time = closed          ? banks_.activate_time(bank)
                            : hit < 0       ? banks_.precharge_time(bank)
                            : transfers     ? banks_.column_time(bank, write)
                                            : banks_.ready_time(bank);
      wake_at(std::max(time, now + 1));
      if (time > now) continue;
      if (closed) found.activate.offer(waiting[0], bank);
      else if (hit < 0) found.precharge.offer(waiting[0], bank);
      else if (transfers) found.column.offer(waiting[hit], bank);
      else ready = true;
    }
    return ready;
  }

  /// The bank of the oldest access and its neighbours in the other bank groups.
  uint32_t banks_of_oldest(const Queue& queue) const {
    uint64_t order = ~0ull;
    unsigned oldest = 0;
    for (uint32_t left = queue.occupied; left; left &= left - 1) {
      const unsigned bank = __builtin_ctz(left);
      if (queue.banks[bank][0].order >= order) continue;
      order = queue.banks[bank][0].order;
      oldest = bank >> p_.group_bits << p_.group_bits;
    }
    return ((1u << (1u << p_.group_bits)) - 1) << oldest;
  }

  /// The oldest access in the window that meets the open row; -1: none, or the row had its share
  /// while another one waits.
  int find_hit(const std::vector<Access>& waiting, unsigned bank) const {
    const uint32_t row = banks_.row(bank);
    if (waiting[0].row == row) return 0;
    if (banks_.hits(bank) >= p_.row_hits_max) return -1;
    const unsigned window = std::min<unsigned>(waiting.size(), p_.bank_window);
    for (unsigned i = 1; i < window; ++i)
      if (waiting[i].row == row) return i;
    return -1;
  }

  Served transfer(Queue& queue, const Candidate& best, uint64_t now) {
    auto& waiting = queue.banks[best.bank];
    const Access access = *best.access;
    waiting.erase(waiting.begin() + (best.access - waiting.data()));
    if (waiting.empty()) queue.occupied &= ~(1u << best.bank);
    --queue.size;
    count(access);
    if (writing_) banks_.write(best.bank, now);
    else banks_.read(best.bank, now);
    const uint64_t latency = (writing_ ? p_.cwl : p_.cl) + p_.burst_clocks;
    return {true, writing_, access.token, now + latency};
  }

  void count(const Access& access) {
    ++(writing_ ? statistics_.writes : statistics_.reads);
    ++(access.conflict    ? statistics_.row_conflicts
       : access.activated ? statistics_.row_misses
                          : statistics_.row_hits);
    statistics_.busy_clocks += p_.burst_clocks;
    if (writing_ != last_write_) ++statistics_.turnarounds;
    last_write_ = writing_;
  }

  const Ddr4Parameters& p_;
  Ddr4Statistics& statistics_;
  Banks banks_;
  Queue queues_[2];  // reads, writes
  uint64_t order_ = 0, wake_ = 0, refresh_due_ = 0, read_seen_ = 0;
  bool writing_ = false, turning_ = false, last_write_ = false;
};

}  // namespace sim
