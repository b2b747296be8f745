// The bytes behind the AXI ports, shared with the caller, and the addresses that answer with errors.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace sim {

constexpr uint8_t kOkay = 0, kSlaveError = 2, kDecodeError = 3;

struct Fault {
  uint64_t address;
  uint8_t response;
};

class Arena {
 public:
  void set(uint64_t base, uint8_t* bytes, uint64_t size) {
    base_ = base;
    bytes_ = bytes;
    size_ = size;
  }
  void add_fault(uint64_t address, uint8_t response) { faults_.push_back({address, response}); }
  void clear_faults() { faults_.clear(); }

  /// AXI response to an access: DECERR outside the memory, a fault that it touches, or OKAY.
  uint8_t response(uint64_t address, uint64_t count) const {
    if (!bytes_ || address < base_ || address - base_ > size_ || size_ - (address - base_) < count)
      return kDecodeError;
    for (const Fault& fault : faults_)
      if (fault.address >= address && fault.address - address < count) return fault.response;
    return kOkay;
  }

  void read(uint64_t address, uint8_t* to, unsigned count) const {
    std::memcpy(to, bytes_ + (address - base_), count);
  }

  /// Writes the bytes whose strobe is set.
  void write(uint64_t address, const uint8_t* from, unsigned count, uint64_t strobe) {
    uint8_t* to = bytes_ + (address - base_);
    for (unsigned i = 0; i < count; ++i)
      if (strobe >> i & 1) to[i] = from[i];
  }

 private:
  uint64_t base_ = 0, size_ = 0;
  uint8_t* bytes_ = nullptr;
  std::vector<Fault> faults_;
};

}  // namespace sim
