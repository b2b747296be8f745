// An AXI address channel (AR or AW) as its slave sees it: the rules that every burst must keep.
#pragma once

#include <cstdint>

#include "geometry.hpp"
#include "protocol.hpp"

namespace sim {

/// Pins of one address channel; pointers into the Verilated model.
struct AddressPins {
  const uint64_t* address;
  const uint8_t *length, *size, *burst, *id, *valid;
  uint8_t* ready;
};

class AddressChannel {
 public:
  AddressChannel(const char* name, int port, AddressPins pins, Protocol& protocol)
      : name_(name), port_(port), pins_(pins), protocol_(protocol) {}

  /// Looks at the settled pins before a clock edge; true when a burst is handed over.
  bool sample(uint64_t cycle) {
    const bool valid = *pins_.valid;
    if (waiting_ && (!valid || *pins_.address != address_ || *pins_.length != length_ ||
                     *pins_.id != id_))
      protocol_.breach(cycle, name_, port_, address_, "changed while waiting for ready");
    waiting_ = valid && !*pins_.ready;
    if (!valid) return false;
    address_ = *pins_.address;
    length_ = *pins_.length;
    id_ = *pins_.id;
    if (waiting_) return false;
    check(cycle);
    return true;
  }

  void set_ready(bool ready) { *pins_.ready = ready; }
  void reset() { waiting_ = false; }
  uint8_t id() const { return *pins_.id; }
  uint64_t address() const { return address_; }
  unsigned beats() const { return length_ + 1u; }
  unsigned bytes() const { return beats() * kPortBytes; }

 private:
  void check(uint64_t cycle) {
    if (address_ % kPortBytes) breach(cycle, "is not aligned to a beat");
    if (beats() > kBurstBeats) breach(cycle, "has more beats than burst_beats");
    if (*pins_.size != kSize) breach(cycle, "has a size that is not the port's width");
    if (*pins_.burst != 1) breach(cycle, "is not of type INCR");
    if (address_ % 4096 + bytes() > 4096) breach(cycle, "crosses a 4 KB boundary");
  }
  void breach(uint64_t cycle, const char* what) {
    protocol_.breach(cycle, name_, port_, address_, what);
  }

  const char* name_;
  int port_;
  AddressPins pins_;
  Protocol& protocol_;
  bool waiting_ = false;
  uint64_t address_ = 0;
  uint8_t length_ = 0, id_ = 0;
};

}  // namespace sim
