// What a checkpoint and a rollback tell of themselves: times, amounts, and what strict refuses.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/result.h"
#include "checkpoint/checkpoint_tree.h"
#include "deltafs/layer.h"

namespace deltabox {

double elapsed_us(std::uint64_t since_ns);

Result<LayerUsage> measure_layers(const std::vector<std::shared_ptr<const Layer>>& layers);

// Of a record whose image has its pages.
void count_pages(Checkpoint& record, std::uint64_t stored_pages);

// Names the first; all are in its details.
Error strict_error(const char* what, std::vector<Notice> details);

}  // namespace deltabox
