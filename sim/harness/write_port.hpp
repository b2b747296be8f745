// The slave end of one AXI4 write port: takes bursts in order, answers each after its last beat.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "address_channel.hpp"
#include "arena.hpp"
#include "injection.hpp"
#include "memory.hpp"

namespace sim {

struct WritePins {
  AddressPins address;
  const uint8_t* data;
  const void* strobe;  // one bit per byte, in the smallest word that holds them
  const uint8_t *last, *valid;
  uint8_t* ready;
  uint8_t *response, *response_id, *response_valid;
  const uint8_t* response_ready;
};

class WritePort {
 public:
  WritePort(int port, WritePins pins, Arena& arena, Memory& memory, Protocol& protocol,
            Statistics& statistics, uint64_t seed)
      : port_(port), pins_(pins), arena_(arena), memory_(memory), protocol_(protocol),
        statistics_(statistics), channel_("AW", port, pins.address, protocol),
        address_stalls_(seed), data_stalls_(seed ? seed + 1000 : 0),
        response_stalls_(seed ? seed + 2000 : 0) {}

  /// Before a clock edge: which handshakes happen on it.
  void sample(uint64_t cycle) {
    if (*pins_.response_valid && *pins_.response_ready) end_burst(cycle);
    check_data_held(cycle);
    if (*pins_.valid && *pins_.ready) take_beat(cycle);
    if (channel_.sample(cycle)) take_burst(cycle);
  }

  /// After the edge: the inputs for the next one.
  void drive() {
    channel_.set_ready(count_ < kCapacity && memory_.room(port_, true) &&
                       !address_stalls_.pause() && !wrongs_.delays_request());
    *pins_.ready = filled_ < count_ && !data_stalls_.pause() && !data_wait();
    if (*pins_.response_valid && !answered_) return;
    answered_ = false;
    if (wrongs_.any() && respond_wrong()) return;
    const Burst& burst = bursts_[head_];
    *pins_.response_valid = filled_ && burst.request.available == burst.request.bytes &&
                            !response_stalls_.pause();
    if (!*pins_.response_valid) return;
    *pins_.response = burst.response;
    *pins_.response_id = burst.id;
    if (burst.response != kOkay) ++statistics_.error_responses;
  }

  Injections& wrongs() { return wrongs_; }

  void reset() {
    wrongs_.clear();
    surplus_ = 0;
    head_ = count_ = filled_ = 0;
    received_ = 0;
    held_ = answered_ = false;
    *pins_.ready = *pins_.response_valid = 0;
    channel_.set_ready(false);
    channel_.reset();
  }

 private:
  struct Burst {
    Request request;
    uint8_t response, id;
    uint64_t number;  // for the injections
  };

  void take_burst(uint64_t cycle) {
    statistics_.last_activity = cycle;
    if (count_ >= kCapacity) return;
    Burst& burst = bursts_[(head_ + count_++) % kCapacity];
    burst.request = {channel_.address(), channel_.bytes(), port_, true, 0};
    burst.response = arena_.response(channel_.address(), channel_.bytes());
    burst.id = channel_.id();
    burst.number = wrongs_.take();
    if (const Injection* found = wrongs_.find(Wrong::kResponse, burst.number))
      burst.response = static_cast<uint8_t>(found->amount);
    ++statistics_.write_bursts;
    statistics_.write_outstanding_max =
        std::max<uint64_t>(statistics_.write_outstanding_max, count_);
  }

  void take_beat(uint64_t cycle) {
    statistics_.last_activity = cycle;
    Burst& burst = bursts_[(head_ + filled_) % kCapacity];
    const uint64_t address = burst.request.address + received_;
    if (burst.response == kOkay) arena_.write(address, pins_.data, kPortBytes, strobe());
    received_ += kPortBytes;
    statistics_.bytes_written += kPortBytes;
    const bool last = received_ == burst.request.bytes;
    if (last != static_cast<bool>(*pins_.last))
      protocol_.breach(cycle, "W", port_, address, "WLAST does not mark the last beat");
    if (!last) return;
    received_ = 0;
    ++filled_;
    memory_.submit(burst.request, cycle);
  }

  void end_burst(uint64_t cycle) {
    statistics_.last_activity = cycle;
    answered_ = true;
    if (surplus_) {
      --surplus_;
      return;
    }
    if (const Injection* found = wrongs_.find(Wrong::kTwice, bursts_[head_].number))
      surplus_ = found->amount;
    head_ = (head_ + 1) % kCapacity;
    --count_;
    --filled_;
  }

  /// A beat that is offered and not taken must stay as it is.
  void check_data_held(uint64_t cycle) {
    if (held_ && (!*pins_.valid || std::memcmp(held_data_, pins_.data, kPortBytes) != 0))
      protocol_.breach(cycle, "W", port_, bursts_[head_].request.address + received_,
                       "data changed while waiting for ready");
    held_ = *pins_.valid && !*pins_.ready;
    if (held_) std::memcpy(held_data_, pins_.data, kPortBytes);
  }

  bool data_wait() {
    return wrongs_.any() && !received_ && filled_ < count_ &&
           wrongs_.delays(Wrong::kData, bursts_[(head_ + filled_) % kCapacity].number);
  }

  /// Puts on the pins a response that is late or one too many; false when there is none.
  bool respond_wrong() {
    if (surplus_) {  // as the one before
      *pins_.response_valid = 1;
      return true;
    }
    if (!filled_ || !wrongs_.delays(Wrong::kLate, bursts_[head_].number)) return false;
    *pins_.response_valid = 0;
    return true;
  }

  uint64_t strobe() const {
    if constexpr (kPortBytes > 8) return *static_cast<const uint16_t*>(pins_.strobe);
    return *static_cast<const uint8_t*>(pins_.strobe);
  }

  int port_;
  WritePins pins_;
  Arena& arena_;
  Memory& memory_;
  Protocol& protocol_;
  Statistics& statistics_;
  AddressChannel channel_;
  Stalls address_stalls_, data_stalls_, response_stalls_;
  std::array<Burst, kCapacity> bursts_{};
  unsigned head_ = 0, count_ = 0, filled_ = 0;  // bursts accepted; of these, with all their data
  uint32_t received_ = 0;                       // bytes of the burst that is being filled
  bool answered_ = false;                       // the response on the pins has been taken
  Injections wrongs_;
  uint64_t surplus_ = 0;  // responses that follow the last burst's
  bool held_ = false;
  uint8_t held_data_[kPortBytes] = {};
};

}  // namespace sim
