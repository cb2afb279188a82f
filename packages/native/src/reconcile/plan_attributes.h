// Which system calls give a process or thread its attributes back: those that differ. Pure: the calls and the data that
// their pointers lead to, for a buffer at an address that the caller names.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "deltacr/image.h"
#include "parasite/session.h"

namespace deltabox {

class AttributeBatch {
 public:
  explicit AttributeBatch(std::uint64_t buffer_address) : buffer_address_(buffer_address) {}
  // Copies the data into the buffer and returns the address that it will have.
  std::uint64_t place(const void* data, std::size_t size_bytes);
  // `kind`: what is said to be not restored where the call is refused.
  void add(const char* kind, parasite::Call call);

  bool empty() const { return calls.empty(); }
  std::string buffer;
  std::vector<parasite::Call> calls;
  std::vector<const char*> kinds;

 private:
  std::uint64_t buffer_address_;
};

void plan_process_attributes(const ProcessImage& live, const ProcessImage& target, AttributeBatch& batch);
void plan_thread_attributes(const ThreadImage& live, const ThreadImage& target, AttributeBatch& batch);
// Users, groups and capabilities of one thread, which come last: other calls may need them. With them what the kernel
// resets when they change.
void plan_thread_rights(const ProcessImage& live, const ThreadImage& live_thread, const ProcessImage& target,
                        const ThreadImage& target_thread, AttributeBatch& batch);

}  // namespace deltabox
