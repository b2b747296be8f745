// What the design did against AXI (ARM IHI 0022E): the first breach in words, all of them counted.
#pragma once

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <string>

namespace sim {

class Protocol {
 public:
  /// Records a breach; `what` is a sentence's middle: "crosses a 4 KB boundary".
  void breach(uint64_t cycle, const char* channel, int port, uint64_t address, const char* what) {
    if (breaches_++) return;
    char text[256];
    std::snprintf(text, sizeof text, "cycle %" PRIu64 ", port %d, %s, address 0x%" PRIx64 ": %s",
                  cycle, port, channel, address, what);
    first_ = text;
  }

  uint64_t breaches() const { return breaches_; }
  const std::string& first() const { return first_; }

 private:
  uint64_t breaches_ = 0;
  std::string first_;
};

}  // namespace sim
