// A seeded source of stalls. Seed 0 means none: then every question costs one comparison.
#pragma once

#include <cstdint>

namespace sim {

/// xorshift64*: small, fast, the same on every machine.
class Random {
 public:
  explicit Random(uint64_t seed = 0) : state_(seed ? seed * 0x9E3779B97F4A7C15u | 1 : 0) {}

  bool enabled() const { return state_ != 0; }

  uint32_t next() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return static_cast<uint32_t>(state_ * 0x2545F4914F6CDD1Du >> 32);
  }

 private:
  uint64_t state_;
};

/// Says, cycle by cycle, whether one channel pauses. The rate changes every few dozen cycles
/// between never, sometimes, mostly and always, because steady noise finds few corners.
class Stalls {
 public:
  explicit Stalls(uint64_t seed = 0) : random_(seed) {}

  bool pause() {
    if (!random_.enabled()) return false;
    const uint32_t draw = random_.next();
    if (left_-- == 0) {
      static constexpr uint8_t kRates[] = {0, 0, 64, 128, 224, 255};
      rate_ = kRates[(draw >> 8) % sizeof kRates];
      left_ = 8 + (draw >> 16) % 64;
    }
    return (draw & 0xFF) < rate_;
  }

 private:
  Random random_;
  uint32_t left_ = 0;
  uint32_t rate_ = 0;
};

}  // namespace sim
