// One simulated device: the Verilated design between its AXI memory and its control port.
//
// One cycle is: look at the settled pins, clock edge, new inputs, settle. So no input of a cycle
// depends on an output of the same cycle.
#pragma once

#include <memory>
#include <vector>

#include "ddr4.hpp"
#include "pins.hpp"
#if VM_TRACE
#include "verilated_fst_c.h"
#endif

namespace sim {

constexpr uint64_t kControlTimeout = 10000;  // cycles; a register answers within a few
constexpr unsigned kResetCycles = 16;

struct Options {
  uint64_t latency;     // cycles from a burst's address to its first beat
  uint64_t jitter;      // most extra cycles, drawn for each burst, when stall_seed is set
  uint64_t stall_seed;  // 0: no random pauses
  const Ddr4Parameters* ddr4 = nullptr;  // the memory's timing instead of latency and jitter
  uint32_t clock_khz = 0;                // of the design, for ddr4
};

/// A seed of its own for each part that stalls; 0 stays 0.
inline uint64_t seed_for(const Options& options, uint64_t part) {
  return options.stall_seed ? options.stall_seed * 64 + part : 0;
}

class Simulation {
 public:
  explicit Simulation(const Options& options)
      : context_(new_context()), model_(new Vkria_llm(context_.get())),
        ddr4_(options.ddr4 ? new Ddr4Memory(*options.ddr4, options.clock_khz) : nullptr),
        memory_(ddr4_ ? static_cast<Memory*>(ddr4_)
                      : new IdealMemory(kPorts, options.latency, options.jitter,
                                        seed_for(options, 0))),
        control_(control_pins(*model_), seed_for(options, 1)),
        write_(0, write_pins(*model_), arena_, *memory_, protocol_, statistics_,
               seed_for(options, 2)) {
    const std::array<ReadPins, kPorts> pins = read_pins(*model_);
    reads_.reserve(kPorts);
    for (int port = 0; port < kPorts; ++port)
      reads_.emplace_back(port, pins[port], arena_, *memory_, protocol_, statistics_,
                          seed_for(options, 3 + port));
    reset();
  }

  ~Simulation() {
#if VM_TRACE
    if (trace_) trace_->close();
#endif
    model_->final();
  }

  void reset() {
    memory_->reset();
    control_.reset();
    write_.reset();
    for (ReadPort& port : reads_) port.reset();
    model_->aresetn = 0;
    for (unsigned i = 0; i < kResetCycles; ++i) {
      settle();
      rise();
    }
    model_->aresetn = 1;
    settle();
  }

  void cycle() {
    control_.sample();
    write_.sample(cycle_);
    for (ReadPort& port : reads_) port.sample(cycle_);
    rise();
    memory_->tick(cycle_);
    control_.drive();
    write_.drive();
    for (ReadPort& port : reads_) port.drive();
    settle();
  }

  /// Steps until the started access to a register is answered. 0: answered; 1: it hangs; 2: it was
  /// answered with an error.
  int finish_access() {
    const uint64_t limit = cycle_ + kControlTimeout;
    while (control_.busy()) {
      if (cycle_ >= limit) return 1;
      cycle();
    }
    return control_.response() == kOkay ? 0 : 2;
  }

  /// Writes an FST trace from now on. 0: done; 1: the file cannot be written; 2: not built for it.
  int trace([[maybe_unused]] const char* path) {
#if VM_TRACE
    trace_.reset(new VerilatedFstC);
    model_->trace(trace_.get(), 99);
    trace_->open(path);
    return trace_->isOpen() ? 0 : 1;
#else
    return 2;
#endif
  }

  /// The injections of a port's reads, or of the writes (port -1).
  Injections& wrongs(int port) { return port < 0 ? write_.wrongs() : reads_[port].wrongs(); }

  uint64_t now() const { return cycle_; }
  Arena& arena() { return arena_; }
  ControlPort& control() { return control_; }
  const Protocol& protocol() const { return protocol_; }
  const Statistics& statistics() const { return statistics_; }
  /// nullptr when the memory has no DDR4 timing.
  const Ddr4Memory* ddr4() const { return ddr4_; }

 private:
  static VerilatedContext* new_context() {
    VerilatedContext* context = new VerilatedContext;
#if VM_TRACE
    context->traceEverOn(true);  // must come before the first evaluation
#endif
    return context;
  }
  void rise() {
    model_->aclk = 1;
    model_->eval();
    dump(2 * cycle_);
    ++cycle_;
  }
  void settle() {
    model_->aclk = 0;
    model_->eval();
    dump(2 * cycle_ - 1);
  }
  void dump([[maybe_unused]] uint64_t time) {
#if VM_TRACE
    if (trace_) trace_->dump(time);
#endif
  }

  uint64_t cycle_ = 1;
  Arena arena_;
  Protocol protocol_;
  Statistics statistics_{};
  std::unique_ptr<VerilatedContext> context_;
  std::unique_ptr<Vkria_llm> model_;
  Ddr4Memory* ddr4_;  // memory_, if it is one
  std::unique_ptr<Memory> memory_;
  ControlPort control_;
  WritePort write_;
  std::vector<ReadPort> reads_;
#if VM_TRACE
  std::unique_ptr<VerilatedFstC> trace_;
#endif
};

}  // namespace sim
