// The slave end of one AXI4 read port: takes bursts, answers in order, one beat a cycle at most.
#pragma once

#include <algorithm>
#include <array>

#include "address_channel.hpp"
#include "arena.hpp"
#include "injection.hpp"
#include "memory.hpp"

namespace sim {

struct ReadPins {
  AddressPins address;
  uint8_t *data, *response, *last, *id, *valid;
  const uint8_t* ready;
};

class ReadPort {
 public:
  ReadPort(int port, ReadPins pins, const Arena& arena, Memory& memory, Protocol& protocol,
           Statistics& statistics, uint64_t seed)
      : port_(port), pins_(pins), arena_(arena), memory_(memory), protocol_(protocol),
        statistics_(statistics), channel_("AR", port, pins.address, protocol),
        address_stalls_(seed), data_stalls_(seed ? seed + 1000 : 0) {}

  /// Before a clock edge: which handshakes happen on it.
  void sample(uint64_t cycle) {
    if (*pins_.valid && *pins_.ready) take_beat(cycle);
    if (channel_.sample(cycle)) take_burst(cycle);
  }

  /// After the edge: the inputs for the next one.
  void drive() {
    channel_.set_ready(count_ < kCapacity && memory_.room(port_, false) &&
                       !address_stalls_.pause() && !wrongs_.delays_request());
    if (*pins_.valid && !taken_) return;  // AXI: what is offered stays until it is taken
    taken_ = false;
    if (surplus_ && !wrongs_.any()) surplus_ = 0, end_burst();
    if (wrongs_.any() && count_ && offer_wrong()) return;
    *pins_.valid = count_ && bursts_[head_].available >= offered_ + kPortBytes &&
                   !data_stalls_.pause();
    if (*pins_.valid) offer_beat();
  }

  Injections& wrongs() { return wrongs_; }

  void reset() {
    wrongs_.clear();
    surplus_ = 0;
    head_ = count_ = offered_ = 0;
    taken_ = false;
    *pins_.valid = 0;
    channel_.set_ready(false);
    channel_.reset();
  }

 private:
  void take_burst(uint64_t cycle) {
    statistics_.last_activity = cycle;
    if (count_ >= kOutstanding && outstanding(channel_.id()) >= kOutstanding)
      protocol_.breach(cycle, "AR", port_, channel_.address(), "exceeds the outstanding bursts");
    if (count_ >= kCapacity) return;
    ids_[(head_ + count_) % kCapacity] = channel_.id();
    numbers_[(head_ + count_) % kCapacity] = wrongs_.take();
    Request& request = bursts_[(head_ + count_++) % kCapacity];
    request = {channel_.address(), channel_.bytes(), port_, false, 0};
    ++statistics_.read_bursts[port_];
    statistics_.read_outstanding_max =
        std::max<uint64_t>(statistics_.read_outstanding_max, count_);
    memory_.submit(request, cycle);
  }

  unsigned outstanding(uint8_t id) const {
    unsigned found = 0;
    for (unsigned i = 0; i < count_; ++i) found += ids_[(head_ + i) % kCapacity] == id;
    return found;
  }

  void take_beat(uint64_t cycle) {
    statistics_.last_activity = cycle;
    statistics_.bytes_read[port_] += kPortBytes;
    taken_ = true;
    if (surplus_) {
      if (surplus_ != kNever && --surplus_ == 0) end_burst();
      return;
    }
    offered_ += kPortBytes;
    if (wrongs_.any() && cut_short()) return end_burst();
    if (offered_ < bursts_[head_].bytes) return;
    if (wrongs_.any() && (surplus_ = surplus())) return;
    end_burst();
  }

  void end_burst() {
    offered_ = 0;
    head_ = (head_ + 1) % kCapacity;
    --count_;
  }

  void offer_beat() {
    const Request& request = bursts_[head_];
    const uint64_t address = request.address + offered_;
    const uint8_t response = arena_.response(address, kPortBytes);
    *pins_.response = response;
    *pins_.id = ids_[head_];
    *pins_.last = offered_ + kPortBytes == request.bytes;
    if (response == kOkay) {
      arena_.read(address, pins_.data, kPortBytes);
    } else {
      ++statistics_.error_responses;
      std::memset(pins_.data, 0xA5, kPortBytes);  // data of a failed beat means nothing
    }
  }

  // What an injection makes of the burst at the head.

  const Injection* wrong(Wrong which) const { return wrongs_.find(which, numbers_[head_]); }
  unsigned beat() const { return offered_ / kPortBytes; }

  bool cut_short() const {
    const Injection* found = wrong(Wrong::kShort);
    return found && beat() == found->beat + 1;
  }
  uint64_t surplus() const {
    if (const Injection* found = wrong(Wrong::kLong)) return found->amount;
    return wrong(Wrong::kEndless) ? kNever : 0;
  }

  /// Puts on the pins what a correct memory would not; false when it would.
  bool offer_wrong() {
    if (!surplus_ && wrongs_.delays(Wrong::kLate, numbers_[head_], beat())) {
      *pins_.valid = 0;
      return true;
    }
    if (!surplus_ && bursts_[head_].available < offered_ + kPortBytes) return false;
    *pins_.valid = 1;
    if (surplus_) {
      *pins_.id = ids_[head_];
      *pins_.response = kOkay;
      *pins_.last = surplus_ == 1;
      std::memset(pins_.data, 0x5A, kPortBytes);
      return true;
    }
    offer_beat();
    for (Wrong which : {Wrong::kEarlyLast, Wrong::kShort})
      if (const Injection* found = wrong(which)) *pins_.last |= beat() == found->beat;
    if (wrong(Wrong::kNoLast) || surplus()) *pins_.last = 0;
    const Injection* found = wrong(Wrong::kResponse);
    if (found && beat() == found->beat) {
      ++statistics_.error_responses;
      *pins_.response = static_cast<uint8_t>(found->amount);
      std::memset(pins_.data, 0xA5, kPortBytes);
    }
    return true;
  }

  int port_;
  ReadPins pins_;
  const Arena& arena_;
  Memory& memory_;
  Protocol& protocol_;
  Statistics& statistics_;
  AddressChannel channel_;
  Stalls address_stalls_, data_stalls_;
  std::array<Request, kCapacity> bursts_{};
  std::array<uint8_t, kCapacity> ids_{};
  std::array<uint64_t, kCapacity> numbers_{};  // of the bursts, for the injections
  unsigned head_ = 0, count_ = 0;
  uint32_t offered_ = 0;  // bytes of the head burst before the beat on the pins
  bool taken_ = false;
  Injections wrongs_;
  uint64_t surplus_ = 0;  // beats that follow the head's last one
};

}  // namespace sim
