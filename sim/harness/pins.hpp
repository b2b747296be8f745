// Which member of the Verilated model is which pin.
#pragma once

#include <array>
#include <type_traits>

#include "Vkria_llm.h"
#include "control_port.hpp"
#include "geometry.hpp"
#include "read_port.hpp"
#include "write_port.hpp"

namespace sim {

// A port of the model is a word, or for more than 64 bits an array of words: both are plain bytes.
template <typename Word>
uint8_t* bytes(Word& word) {
  static_assert(std::is_standard_layout<Word>::value, "a Verilated port is plain data");
  return reinterpret_cast<uint8_t*>(&word);
}

#define KRIA_READ_PINS(p)                                                                     \
  ReadPins {                                                                                  \
    {&model.m_axi_hp##p##_araddr, &model.m_axi_hp##p##_arlen, &model.m_axi_hp##p##_arsize,    \
     &model.m_axi_hp##p##_arburst, &model.m_axi_hp##p##_arid, &model.m_axi_hp##p##_arvalid,   \
     &model.m_axi_hp##p##_arready},                                                           \
        bytes(model.m_axi_hp##p##_rdata), &model.m_axi_hp##p##_rresp,                         \
        &model.m_axi_hp##p##_rlast, &model.m_axi_hp##p##_rid, &model.m_axi_hp##p##_rvalid,    \
        &model.m_axi_hp##p##_rready                                                           \
  }

inline std::array<ReadPins, kPorts> read_pins(Vkria_llm& model) {
  return {
      KRIA_READ_PINS(0),
#if KRIA_PORTS > 1
      KRIA_READ_PINS(1),
#endif
#if KRIA_PORTS > 2
      KRIA_READ_PINS(2), KRIA_READ_PINS(3),
#endif
  };
}
#undef KRIA_READ_PINS

inline WritePins write_pins(Vkria_llm& model) {
  return {{&model.m_axi_hp0_awaddr, &model.m_axi_hp0_awlen, &model.m_axi_hp0_awsize,
           &model.m_axi_hp0_awburst, &model.m_axi_hp0_awid, &model.m_axi_hp0_awvalid,
           &model.m_axi_hp0_awready},
          bytes(model.m_axi_hp0_wdata), &model.m_axi_hp0_wstrb, &model.m_axi_hp0_wlast,
          &model.m_axi_hp0_wvalid, &model.m_axi_hp0_wready, &model.m_axi_hp0_bresp,
          &model.m_axi_hp0_bid, &model.m_axi_hp0_bvalid, &model.m_axi_hp0_bready};
}

inline ControlPins control_pins(Vkria_llm& model) {
  return {&model.s_axi_control_awaddr, &model.s_axi_control_araddr, &model.s_axi_control_wdata,
          &model.s_axi_control_wstrb, &model.s_axi_control_awvalid, &model.s_axi_control_wvalid,
          &model.s_axi_control_bready, &model.s_axi_control_arvalid, &model.s_axi_control_rready,
          &model.s_axi_control_rdata, &model.s_axi_control_awready, &model.s_axi_control_wready,
          &model.s_axi_control_bresp, &model.s_axi_control_bvalid, &model.s_axi_control_arready,
          &model.s_axi_control_rresp, &model.s_axi_control_rvalid};
}

}  // namespace sim
