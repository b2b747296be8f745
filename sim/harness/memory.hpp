// When bytes move. The AXI front ends (read_port.hpp, write_port.hpp) keep AXI's rules and move the
// data; a Memory only decides when. Another timing model is another implementation of Memory.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <vector>

#include "random.hpp"

namespace sim {

/// One burst on its way. The front end owns it and keeps its address until the burst has ended.
struct Request {
  uint64_t address = 0;
  uint32_t bytes = 0;
  int port = 0;
  bool write = false;
  /// Set by the memory: bytes from the start of the burst that may be handed over (read), or that
  /// have been taken in (write). Grows to `bytes`; never shrinks.
  uint32_t available = 0;
};

class Memory {
 public:
  virtual ~Memory() = default;
  /// Whether a burst of this port would be taken now; otherwise the port holds its ready low.
  virtual bool room(int /*port*/, bool /*write*/) const { return true; }
  /// A read burst has been accepted, or the last beat of a write burst has arrived.
  virtual void submit(Request& request, uint64_t cycle) = 0;
  /// Called once per clock before the ports look at `available`.
  virtual void tick(uint64_t cycle) = 0;
  /// Forgets everything on its way.
  virtual void reset() = 0;
};

/// Every burst takes `latency` cycles; with a seed up to `jitter` more, in order for each port.
/// There is no limit on the rate but the ports' own one beat a cycle: the ideal memory.
class IdealMemory final : public Memory {
 public:
  IdealMemory(int ports, uint64_t latency, uint64_t jitter, uint64_t seed)
      : queues_(2 * ports), latency_(latency), jitter_(jitter), random_(seed) {}

  void submit(Request& request, uint64_t cycle) override {
    Queue& queue = queues_[2 * request.port + request.write];
    uint64_t due = cycle + latency_;
    if (random_.enabled() && jitter_) due += random_.next() % (jitter_ + 1);
    queue.last_due = std::max(queue.last_due, due);
    queue.waiting.push_back({queue.last_due, &request});
  }

  void tick(uint64_t cycle) override {
    for (Queue& queue : queues_)
      while (!queue.waiting.empty() && queue.waiting.front().due <= cycle) {
        Request& request = *queue.waiting.front().request;
        request.available = request.bytes;
        queue.waiting.pop_front();
      }
  }

  void reset() override {
    for (Queue& queue : queues_) queue = Queue{};
  }

 private:
  struct Waiting {
    uint64_t due;
    Request* request;
  };
  struct Queue {
    std::deque<Waiting> waiting;
    uint64_t last_due = 0;
  };

  std::vector<Queue> queues_;
  uint64_t latency_, jitter_;
  Random random_;
};

}  // namespace sim
