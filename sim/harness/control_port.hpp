// The master end of the AXI4-Lite control port: one read or write at a time.
#pragma once

#include <cstdint>

#include "random.hpp"

namespace sim {

struct ControlPins {
  uint16_t *write_address, *read_address;
  uint32_t* write_data;
  uint8_t *write_strobe, *write_address_valid, *write_data_valid, *response_ready;
  uint8_t *read_address_valid, *read_data_ready;
  const uint32_t* read_data;
  const uint8_t *write_address_ready, *write_data_ready, *response, *response_valid;
  const uint8_t *read_address_ready, *read_response, *read_data_valid;
};

class ControlPort {
 public:
  ControlPort(ControlPins pins, uint64_t seed) : pins_(pins), stalls_(seed) {}

  void start_write(uint16_t offset, uint32_t value) {
    offset_ = offset;
    value_ = value;
    address_left_ = data_left_ = answer_left_ = writing_ = true;
  }
  void start_read(uint16_t offset) {
    offset_ = offset;
    address_left_ = answer_left_ = true;
    data_left_ = writing_ = false;
  }
  bool busy() const { return answer_left_; }
  uint32_t value() const { return value_; }
  uint8_t response() const { return response_; }

  /// Before a clock edge: which handshakes happen on it.
  void sample() {
    if (!answer_left_) return;
    if (writing_) {
      address_done_ = *pins_.write_address_valid && *pins_.write_address_ready;
      data_done_ = *pins_.write_data_valid && *pins_.write_data_ready;
      answer_done_ = *pins_.response_valid && *pins_.response_ready;
      if (answer_done_) response_ = *pins_.response;
    } else {
      address_done_ = *pins_.read_address_valid && *pins_.read_address_ready;
      answer_done_ = *pins_.read_data_valid && *pins_.read_data_ready;
      if (answer_done_) {
        value_ = *pins_.read_data;
        response_ = *pins_.read_response;
      }
    }
  }

  /// After the edge: the inputs for the next one. Valid and ready rise apart when stalling.
  void drive() {
    if (!answer_left_) return;
    if (address_done_) address_left_ = false;
    if (data_done_) data_left_ = false;
    if (answer_done_) answer_left_ = false;
    address_done_ = data_done_ = answer_done_ = false;
    if (writing_) {
      offer(pins_.write_address_valid, address_left_);
      *pins_.write_address = offset_;
      offer(pins_.write_data_valid, data_left_);
      *pins_.write_data = value_;
      *pins_.write_strobe = 0xF;
      *pins_.response_ready = answer_left_ && !stalls_.pause();
    } else {
      offer(pins_.read_address_valid, address_left_);
      *pins_.read_address = offset_;
      *pins_.read_data_ready = answer_left_ && !stalls_.pause();
    }
  }

  void reset() {
    *pins_.write_address_valid = *pins_.write_data_valid = *pins_.response_ready = 0;
    *pins_.read_address_valid = *pins_.read_data_ready = 0;
    address_left_ = data_left_ = answer_left_ = false;
  }

 private:
  void offer(uint8_t* valid, bool left) {
    if (!left) *valid = 0;
    else if (!*valid) *valid = !stalls_.pause();
  }

  ControlPins pins_;
  Stalls stalls_;
  uint16_t offset_ = 0;
  uint32_t value_ = 0;
  uint8_t response_ = 0;
  bool writing_ = false, address_left_ = false, data_left_ = false, answer_left_ = false;
  bool address_done_ = false, data_done_ = false, answer_done_ = false;
};

}  // namespace sim
