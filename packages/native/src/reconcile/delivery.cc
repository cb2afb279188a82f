#include "reconcile/delivery.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "reconcile/remote_calls.h"
#include "sys/files.h"
#include "sys/processes.h"
#include "sys/sockets.h"
#include "tracee/raised_limit.h"

namespace deltabox {

namespace {

using parasite::Call;
using parasite::make_call;

constexpr std::size_t kCallsAroundUses = 3;

// What recvmsg needs inside the process, at the start of the parasite's buffer.
struct ReceiveArea {
  msghdr message;
  iovec part;
  char byte[8];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * sys::kMaxFdsPerMessage)];
};
static_assert(sizeof(ReceiveArea) < parasite::kBufferBytes);

struct Transfer {
  RaisedDescriptorLimit limit;
  Call pair{};
  int ends[2] = {-1, -1};
  std::vector<int> numbers;
};

Result<void> start_pair(Delivery& delivery, Transfer& transfer) {
  HeldProcess& held = *delivery.held;
  transfer.limit = RaisedDescriptorLimit(held.live->pid);
  transfer.pair = make_call(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, buffer_at(held, 0));
  return held.session.start(held.live->site, {&transfer.pair, 1});
}

Result<UniqueFd> collect_pair(Delivery& delivery, Transfer& transfer) {
  HeldProcess& held = *delivery.held;
  TRY(held.session.collect(held.live->site, {&transfer.pair, 1}));
  if (transfer.pair.result < 0) return failed_call(held, "socketpair in a tracee", transfer.pair);
  TRY(held.session.read_buffer(held.live->site, 0, transfer.ends, sizeof transfer.ends));
  return sys::pidfd_get_fd(held.live->pidfd.get(), transfer.ends[1]);
}

ReceiveArea receive_area(const HeldProcess& held) {
  ReceiveArea area{};
  area.message.msg_iov = reinterpret_cast<iovec*>(buffer_at(held, offsetof(ReceiveArea, part)));
  area.message.msg_iovlen = 1;
  area.part = {reinterpret_cast<void*>(buffer_at(held, offsetof(ReceiveArea, byte))), 1};
  area.message.msg_control = reinterpret_cast<void*>(buffer_at(held, offsetof(ReceiveArea, control)));
  area.message.msg_controllen = sizeof area.control;
  return area;
}

Result<void> start_use(Delivery& delivery, Transfer& transfer, const UniqueFd& send_end) {
  HeldProcess& held = *delivery.held;
  const std::vector<int> open = TRY(sys::list_numeric_dir(TRY(held.live->files.get(ProcFile::kDescriptors))));
  std::set<int> taken(open.begin(), open.end());
  transfer.numbers = lowest_free(taken, delivery.fds.size());
  taken.insert(transfer.numbers.begin(), transfer.numbers.end());
  const auto end = [&](int index) { return static_cast<std::uint64_t>(transfer.ends[index]); };
  delivery.calls = {make_call(SYS_recvmsg, end(0), buffer_at(held, 0), MSG_CMSG_CLOEXEC | MSG_DONTWAIT),
                    make_call(SYS_close, end(0)), make_call(SYS_close, end(1))};
  const std::vector<Call> uses = delivery.use(transfer.numbers, taken);
  delivery.calls.insert(delivery.calls.end(), uses.begin(), uses.end());
  const ReceiveArea area = receive_area(held);
  TRY(held.session.write_buffer(held.live->site, 0, &area, sizeof area));
  TRY(sys::send_with_fds(send_end.get(), "d", 1, delivery.fds));
  return held.session.start(held.live->site, delivery.calls);
}

// What came in has to be what the calls after it took for granted.
Result<void> collect_use(Delivery& delivery, const Transfer& transfer) {
  HeldProcess& held = *delivery.held;
  TRY(held.session.collect(held.live->site, delivery.calls));
  const std::int64_t received = delivery.calls.front().result;
  if (received != 1) {
    return os_error_from(received < 0 ? static_cast<int>(-received) : EIO, "recvmsg in a tracee");
  }
  ReceiveArea area{};
  TRY(held.session.read_buffer(held.live->site, 0, &area, sizeof area));
  const auto* header = reinterpret_cast<const cmsghdr*>(area.control);
  const std::size_t bytes = sizeof(int) * transfer.numbers.size();
  if (header->cmsg_type != SCM_RIGHTS || header->cmsg_len != CMSG_LEN(bytes)) {
    return make_error(Code::kTooLarge, "process " + std::to_string(held.live->inside.value) +
                                           " has no room for its descriptors (RLIMIT_NOFILE)");
  }
  if (std::memcmp(CMSG_DATA(header), transfer.numbers.data(), bytes) != 0) {
    return make_error(Code::kInternal, "descriptors arrived under other numbers than the lowest");
  }
  delivery.calls.erase(delivery.calls.begin(), delivery.calls.begin() + kCallsAroundUses);
  return {};
}

}  // namespace

std::vector<int> lowest_free(const std::set<int>& taken, std::size_t count) {
  std::vector<int> free;
  for (int number = 0; free.size() < count; ++number) {
    if (!taken.contains(number)) free.push_back(number);
  }
  return free;
}

Result<void> deliver(std::vector<Delivery>& deliveries) {
  std::vector<Transfer> transfers(deliveries.size());
  for (std::size_t index = 0; index < deliveries.size(); ++index) {
    TRY(start_pair(deliveries[index], transfers[index]));
  }
  for (std::size_t index = 0; index < deliveries.size(); ++index) {
    const UniqueFd send_end = TRY(collect_pair(deliveries[index], transfers[index]));
    TRY(start_use(deliveries[index], transfers[index], send_end));
  }
  for (std::size_t index = 0; index < deliveries.size(); ++index) {
    TRY(collect_use(deliveries[index], transfers[index]));
  }
  return {};
}

}  // namespace deltabox
