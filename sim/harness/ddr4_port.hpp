// One HP port on its way to the controller: bursts cut, a limit on those in flight, data in order.
#pragma once

#include <cstdint>
#include <vector>

#include "ddr4_parameters.hpp"
#include "memory.hpp"

namespace sim {

/// A first-in first-out queue that grows and keeps its memory.
template <typename T>
class Fifo {
 public:
  bool empty() const { return head_ == tail_; }
  size_t size() const { return tail_ - head_; }
  T& front() { return items_[head_ & mask_]; }
  /// The item that the push number `index` put in.
  T& at(size_t index) { return items_[index & mask_]; }
  /// The number of the push.
  size_t push(const T& item) {
    if (size() == items_.size()) grow();
    items_[tail_ & mask_] = item;
    return tail_++;
  }
  void pop() { ++head_; }
  void clear() { head_ = tail_ = 0; }
  size_t head() const { return head_; }
  size_t tail() const { return tail_; }

 private:
  void grow() {
    std::vector<T> larger(2 * items_.size());
    for (size_t i = head_; i != tail_; ++i) larger[i & (larger.size() - 1)] = items_[i & mask_];
    items_.swap(larger);
    mask_ = items_.size() - 1;
  }
  std::vector<T> items_ = std::vector<T>(64);
  size_t mask_ = 63, head_ = 0, tail_ = 0;
};

/// One direction of one port: bursts that wait, bursts that go into the controller access by
/// access, and accesses until the port has their data (reads) or their response (writes).
class Lane {
 public:
  /// A piece of a request, at most `burst_bytes` long.
  struct Burst {
    Request* request;
    uint32_t from, to;    // bytes of the request
    uint64_t submitted;    // clock of the request; 0 but for its first burst
    uint64_t arrival = 0;  // clock at the controller
  };
  struct Access {
    Request* request;
    uint32_t available;  // bytes of the request that are there after this one
    uint64_t submitted;
    bool ends_burst;
    uint64_t time = 0;  // 0: not served; clock after its data; when scheduled, at the port's pins
  };

  /// `link_free` is when the controller port has moved all write data so far, shared by the lanes
  /// on it; nullptr for reads, whose data load the port on their way back.
  Lane(const Ddr4Parameters& parameters, uint64_t* link_free)
      : p_(parameters), link_free_(link_free) {}

  void submit(Request& request, uint64_t now) {
    for (uint32_t from = 0; from < request.bytes;) {
      const uint32_t to = std::min(request.bytes, from + p_.burst_bytes);
      waiting_.push({&request, from, to, from ? 0 : now});
      from = to;
    }
    release(now);
  }

  /// Clock at which the next access is at the controller; all ones: there is none.
  uint64_t arrival() { return flying_.empty() ? ~0ull : flying_.front().arrival; }
  uint64_t next_address() {
    const Burst& burst = flying_.front();
    return (burst.request->address + burst.from) & ~uint64_t{kAccessBytes - 1};
  }
  /// Moves the next access into the controller. Returns its number; `ended` says that it was its
  /// burst's last.
  uint32_t take(bool& ended) {
    Burst& burst = flying_.front();
    const uint64_t next = next_address() + kAccessBytes - burst.request->address;
    burst.from = static_cast<uint32_t>(std::min<uint64_t>(burst.to, next));
    ended = burst.from == burst.to;
    const size_t number = accesses_.push({burst.request, burst.from, burst.submitted, ended});
    burst.submitted = 0;
    if (ended) flying_.pop();
    return static_cast<uint32_t>(number);
  }

  Access& access(uint32_t number) { return accesses_.at(number); }
  /// The oldest access that is not scheduled; nullptr: there is none.
  const Access* unscheduled() {
    return scheduled_ == accesses_.tail() ? nullptr : &accesses_.at(scheduled_);
  }
  void schedule(uint64_t time) { accesses_.at(scheduled_++).time = time; }

  /// Hands over what has arrived; `first` is called with a request's clock of submission. Says
  /// whether a burst that waited is on its way now.
  template <typename First>
  bool deliver(uint64_t now, First first) {
    bool released = false;
    while (accesses_.head() != scheduled_ && accesses_.front().time <= now) {
      const Access access = accesses_.front();
      accesses_.pop();
      access.request->available = access.available;
      if (access.submitted) first(access.submitted);
      if (access.ends_burst) {
        --in_flight_;
        released |= !waiting_.empty();
        release(now);
      }
    }
    return released;
  }

  void reset() {
    waiting_.clear();
    flying_.clear();
    accesses_.clear();
    scheduled_ = in_flight_ = 0;
  }

 private:
  void release(uint64_t now) {
    while (!waiting_.empty() && in_flight_ < p_.outstanding) {
      Burst burst = waiting_.front();
      waiting_.pop();
      burst.arrival = now + p_.request_clocks;
      if (link_free_) {
        const uint32_t accesses = (burst.to - burst.from + kAccessBytes - 1) / kAccessBytes;
        burst.arrival = std::max(burst.arrival, *link_free_) + accesses * p_.access_clocks;
        *link_free_ = burst.arrival;
      }
      flying_.push(burst);
      ++in_flight_;
    }
  }

  const Ddr4Parameters& p_;
  uint64_t* link_free_;
  Fifo<Burst> waiting_, flying_;
  Fifo<Access> accesses_;
  size_t scheduled_ = 0;
  uint32_t in_flight_ = 0;
};

}  // namespace sim
