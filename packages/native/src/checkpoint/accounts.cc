#include "checkpoint/accounts.h"

#include <string>
#include <utility>

#include "base/clock.h"

namespace deltabox {

double elapsed_us(std::uint64_t since_ns) { return static_cast<double>(monotonic_ns() - since_ns) / 1000.0; }

Result<LayerUsage> measure_layers(const std::vector<std::shared_ptr<const Layer>>& layers) {
  LayerUsage total;
  for (const auto& layer : layers) {
    const LayerUsage usage = TRY(measure_layer(*layer));
    total.files += usage.files;
    total.bytes += usage.bytes;
  }
  return total;
}

void count_pages(Checkpoint& record, std::uint64_t stored_pages) {
  record.stored_pages = stored_pages;
  for (const ProcessImage& process : record.image->processes) record.total_pages += process.pages.size();
}

Error strict_error(const char* what, std::vector<Notice> details) {
  std::string message = std::string(what) + ", and strict was asked for";
  if (!details.empty()) {
    const Notice& first = details.front();
    message += ": " + first.kind + (first.pid != 0 ? " of pid " + std::to_string(first.pid) : "") + ", " + first.reason;
    if (details.size() > 1) message += " (and " + std::to_string(details.size() - 1) + " more)";
  }
  Error error = make_error(Code::kStrict, message, "Read the details; call again without strict to accept them.");
  error.details = std::move(details);
  return error;
}

}  // namespace deltabox
