// When each DDR4 command may be issued: the rules of JESD79-4 between commands of one rank.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ddr4_parameters.hpp"

namespace sim {

class Banks {
 public:
  static constexpr uint32_t kClosed = ~0u;

  explicit Banks(const Ddr4Parameters& parameters)
      : p_(parameters), groups_(1u << parameters.group_bits),
        banks_(groups_.size() << parameters.bank_bits) {}

  unsigned count() const { return banks_.size(); }
  uint32_t row(unsigned bank) const { return banks_[bank].row; }
  /// Column commands to the open row since it was opened.
  unsigned hits(unsigned bank) const { return banks_[bank].hits; }

  uint64_t activate_time(unsigned bank) const {
    return std::max({banks_[bank].activate, group_of(bank).activate, window_[oldest_] + p_.tfaw});
  }
  uint64_t precharge_time(unsigned bank) const { return banks_[bank].precharge; }
  uint64_t column_time(unsigned bank, bool write) const {
    const Group& group = group_of(bank);
    return std::max(banks_[bank].column, write ? group.write : group.read);
  }
  /// When the bus may start to turn around for the open row: its clocks hide the row's.
  uint64_t ready_time(unsigned bank) const {
    const uint64_t turn = p_.cl + p_.burst_clocks + 2 - p_.cwl;
    return banks_[bank].column - std::min(banks_[bank].column, turn);
  }
  /// When every open bank may be closed.
  uint64_t precharge_all_time() const {
    uint64_t time = 0;
    for (const Bank& bank : banks_)
      if (bank.row != kClosed) time = std::max(time, bank.precharge);
    return time;
  }
  /// When a refresh may follow, all banks being closed.
  uint64_t refresh_time() const {
    uint64_t time = 0;
    for (const Bank& bank : banks_) time = std::max(time, bank.activate);
    return time;
  }
  bool all_closed() const {
    return std::all_of(banks_.begin(), banks_.end(),
                       [](const Bank& bank) { return bank.row == kClosed; });
  }

  void activate(unsigned bank, uint32_t row, uint64_t now) {
    Bank& b = banks_[bank];
    b.row = row;
    b.hits = 0;
    b.column = now + p_.trcd;
    b.precharge = now + p_.tras;
    for (unsigned g = 0; g < groups_.size(); ++g)
      later(groups_[g].activate, now + (g == group(bank) ? p_.trrd_l : p_.trrd_s));
    window_[oldest_] = now;
    oldest_ = (oldest_ + 1) % 4;
  }

  void precharge(unsigned bank, uint64_t now) {
    banks_[bank].row = kClosed;
    later(banks_[bank].activate, now + p_.trp);
  }
  void precharge_all(uint64_t now) {
    for (unsigned bank = 0; bank < banks_.size(); ++bank) precharge(bank, now);
  }
  void refresh(uint64_t now) {
    for (Bank& bank : banks_) bank.activate = now + p_.trfc;
  }

  void read(unsigned bank, uint64_t now) {
    ++banks_[bank].hits;
    later(banks_[bank].precharge, now + p_.trtp);
    for (unsigned g = 0; g < groups_.size(); ++g) {
      later(groups_[g].read, now + (g == group(bank) ? p_.tccd_l : p_.tccd_s));
      // The bus turns around for one clock, and a write's preamble takes another.
      later(groups_[g].write, now + p_.cl + p_.burst_clocks + 2 - p_.cwl);
    }
  }

  void write(unsigned bank, uint64_t now) {
    ++banks_[bank].hits;
    const uint64_t end = now + p_.cwl + p_.burst_clocks;
    later(banks_[bank].precharge, end + p_.twr);
    for (unsigned g = 0; g < groups_.size(); ++g) {
      const bool same = g == group(bank);
      later(groups_[g].write, now + (same ? p_.tccd_l : p_.tccd_s));
      later(groups_[g].read, end + (same ? p_.twtr_l : p_.twtr_s));
    }
  }

 private:
  struct Bank {
    uint32_t row = kClosed;
    unsigned hits = 0;
    uint64_t activate = 0, precharge = 0, column = 0;
  };
  struct Group {
    uint64_t activate = 0, read = 0, write = 0;
  };

  static void later(uint64_t& time, uint64_t other) { time = std::max(time, other); }
  unsigned group(unsigned bank) const { return bank & (groups_.size() - 1); }
  const Group& group_of(unsigned bank) const { return groups_[group(bank)]; }

  const Ddr4Parameters& p_;
  std::vector<Group> groups_;
  std::vector<Bank> banks_;
  uint64_t window_[4] = {};  // the last four activates (tFAW)
  unsigned oldest_ = 0;
};

}  // namespace sim
