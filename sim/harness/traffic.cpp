// Streams of bursts on a Memory without any design: what the memory alone gives. The C ABI of
// sim/traffic.py.

#include <array>
#include <memory>

#include "ddr4.hpp"

namespace sim {

/// What one port asks for.
struct Stream {
  uint64_t address;  // of the first read burst
  uint64_t step;     // from one read burst to the next
  uint64_t bursts;   // reads and writes together
  uint64_t write_address;
  uint32_t write_every;  // one burst in so many is a write; 0: none
  uint32_t burst_bytes;
  uint32_t outstanding;
  uint32_t port_bytes;
  uint32_t fifo_bytes;  // room for data that wait for the other ports'
};

/// One port's master. It takes a beat a cycle into its FIFO, and asks for what has room there.
class Source {
 public:
  Source(int port, const Stream& stream, Memory& memory)
      : port_(port), stream_(stream), memory_(memory), reads_(stream.outstanding),
        writes_(stream.outstanding) {}

  bool done() const { return sent() == stream_.bursts && !reading_ && !writing_; }
  uint32_t stored() const { return stored_; }
  void consume() { stored_ -= stream_.port_bytes; }
  uint64_t bytes() const { return bytes_; }

  void cycle(uint64_t now) {
    take_beat();
    take_response();
    if (sent() == stream_.bursts) return;
    const uint64_t due = stream_.write_every ? (sent() + 1) / stream_.write_every : 0;
    if (writes_sent_ < due && writing_ < stream_.outstanding) send_write(now);
    else if (reading_ < stream_.outstanding && room()) send_read(now);
  }

 private:
  uint64_t sent() const { return reads_sent_ + writes_sent_; }
  bool room() const {
    return stored_ - taken_ + (reading_ + 1) * stream_.burst_bytes <= stream_.fifo_bytes;
  }
  void take_beat() {
    if (!reading_) return;
    Request& head = reads_[head_];
    if (head.available < taken_ + stream_.port_bytes) return;
    taken_ += stream_.port_bytes;
    stored_ += stream_.port_bytes;
    bytes_ += stream_.port_bytes;
    if (taken_ < head.bytes) return;
    taken_ = 0;
    head_ = (head_ + 1) % stream_.outstanding;
    --reading_;
  }
  void take_response() {
    if (!writing_ || writes_[write_head_].available < writes_[write_head_].bytes) return;
    bytes_ += writes_[write_head_].bytes;
    write_head_ = (write_head_ + 1) % stream_.outstanding;
    --writing_;
  }
  void send_read(uint64_t now) {
    send(reads_[(head_ + reading_++) % stream_.outstanding],
         stream_.address + stream_.step * reads_sent_++, false, now);
  }
  void send_write(uint64_t now) {
    send(writes_[(write_head_ + writing_++) % stream_.outstanding],
         stream_.write_address + uint64_t{stream_.burst_bytes} * writes_sent_++, true, now);
  }
  void send(Request& request, uint64_t address, bool write, uint64_t now) {
    request = {address, stream_.burst_bytes, port_, write, 0};
    memory_.submit(request, now);
  }

  int port_;
  Stream stream_;
  Memory& memory_;
  std::vector<Request> reads_, writes_;
  uint32_t head_ = 0, reading_ = 0, taken_ = 0, stored_ = 0;
  uint32_t write_head_ = 0, writing_ = 0;
  uint64_t reads_sent_ = 0, writes_sent_ = 0, bytes_ = 0;
};

/// Takes a beat from every port when all have one: the ports together deliver one wide beat.
inline void consume(std::vector<Source>& sources) {
  for (const Source& source : sources)
    if (!source.stored()) return;
  for (Source& source : sources) source.consume();
}

}  // namespace sim

extern "C" {

/// Runs the streams of `ports` ports until the first one ends, or for `limit` cycles. Returns the
/// cycles; `bytes` is what all of them moved.
uint64_t traffic_run(const sim::Ddr4Parameters* parameters, uint32_t fabric_khz,
                     const sim::Stream* streams, int ports, uint64_t limit, int every_clock,
                     uint64_t* bytes, sim::Ddr4Statistics* statistics) {
  sim::Ddr4Memory memory(*parameters, fabric_khz, every_clock);
  std::vector<sim::Source> sources;
  for (int port = 0; port < ports; ++port) sources.emplace_back(port, streams[port], memory);
  uint64_t cycle = 0;
  for (bool done = false; !done && cycle < limit; ++cycle) {
    memory.tick(cycle);
    for (sim::Source& source : sources) {
      source.cycle(cycle);
      done |= source.done();
    }
    sim::consume(sources);
  }
  *bytes = 0;
  for (const sim::Source& source : sources) *bytes += source.bytes();
  *statistics = memory.statistics();
  return cycle;
}

}  // extern "C"
