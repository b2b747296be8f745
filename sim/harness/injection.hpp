// What a memory or an interconnect may do wrong: one thing at one burst of one port.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

namespace sim {

/// The caller's mirror is sim/device.py.
enum class Wrong : uint32_t {
  kResponse,   // a beat (a write: the burst) is answered with the response code `amount`
  kEarlyLast,  // RLAST on beat `beat` too, before the last one
  kShort,      // RLAST on beat `beat`, and no beat after it
  kNoLast,     // no RLAST on the last beat
  kLong,       // no RLAST on the last beat, but `amount` beats later
  kEndless,    // no RLAST on the last beat, and beats without end
  kLate,       // a beat (a write: the response) comes `amount` cycles late
  kTwice,      // `amount` responses too many follow a write's
  kAddress,    // the request is taken `amount` cycles late
  kData,       // the first of a write's data is taken `amount` cycles late
};

constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

struct Injection {
  Wrong wrong;
  uint64_t burst;  // number of the port's burst since the faults were last cleared
  uint32_t beat;
  uint64_t amount;
};

/// The injections of the read or the write side of one port.
class Injections {
 public:
  void add(const Injection& injection) { list_.push_back(injection); }
  void clear() {
    list_.clear();
    taken_ = delayed_ = 0;
  }
  bool any() const { return !list_.empty(); }

  /// A burst has been taken: its number.
  uint64_t take() { return taken_++; }

  const Injection* find(Wrong wrong, uint64_t burst) const {
    for (const Injection& injection : list_)
      if (injection.wrong == wrong && injection.burst == burst) return &injection;
    return nullptr;
  }

  /// Asked in each cycle in which the thing might happen: whether it must wait.
  bool delays(Wrong wrong, uint64_t burst, uint32_t beat = 0) {
    const Injection* found = find(wrong, burst);
    if (!found || found->beat != beat || delayed_ >= found->amount) return false;
    ++delayed_;
    return true;
  }
  /// Whether the next request must wait.
  bool delays_request() { return any() && delays(Wrong::kAddress, taken_); }

 private:
  std::vector<Injection> list_;
  uint64_t taken_ = 0, delayed_ = 0;
};

}  // namespace sim
