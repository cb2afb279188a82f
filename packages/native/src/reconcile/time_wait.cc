#include "reconcile/time_wait.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "reconcile/remote_calls.h"

namespace deltabox {

namespace {

constexpr std::uint32_t kTcpTimeWait = 6;  // include/net/tcp_states.h
constexpr std::size_t kAnswerBytes = 32u << 10;

struct Question {
  nlmsghdr header{};
  inet_diag_req_v2 request{};
};

Question question_about(std::uint8_t family, std::uint16_t type, std::uint16_t flags) {
  Question question;
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = type;
  question.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  question.request.sdiag_family = family;
  question.request.sdiag_protocol = IPPROTO_TCP;
  question.request.idiag_states = 1u << kTcpTimeWait;
  return question;
}

Result<void> ask(int diagnosis, const Question& question) {
  if (::send(diagnosis, &question, sizeof question, 0) < 0) return os_error("send", "sock_diag");
  return {};
}

// Those of all ports: the kernel's own filters are a bytecode that costs more lines than it saves time.
Result<std::vector<inet_diag_sockid>> time_waits(int diagnosis, std::uint8_t family, std::uint16_t port) {
  TRY(ask(diagnosis, question_about(family, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP)));
  std::vector<inet_diag_sockid> found;
  std::vector<char> answer(kAnswerBytes);
  for (;;) {
    const ssize_t count = ::recv(diagnosis, answer.data(), answer.size(), 0);
    if (count < 0) return os_error("recv", "sock_diag");
    auto left = static_cast<std::size_t>(count);
    for (const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data()); NLMSG_OK(header, left);
         header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY) return found;  // NLMSG_DONE, or an error: there are none
      const auto* entry = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
      if (entry->idiag_state == kTcpTimeWait && entry->id.idiag_sport == port) found.push_back(entry->id);
    }
  }
}

}  // namespace

Result<void> end_time_waits(HeldProcess& held, const SocketState& wanted) {
  if (wanted.is_unix() || wanted.protocol != IPPROTO_TCP) return {};
  sockaddr_in6 address{};  // the port is at the same place in both families
  std::memcpy(&address, wanted.name.data(), std::min(wanted.name.size(), sizeof address));
  const UniqueFd diagnosis = TRY(make_socket_in(held, AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG));
  // One that is bound to all addresses of version 6 keeps the port of version 4, too.
  for (const std::uint8_t family : {AF_INET, AF_INET6}) {
    for (const inet_diag_sockid& id : TRY(time_waits(diagnosis.get(), family, address.sin6_port))) {
      Question destroy = question_about(family, SOCK_DESTROY, NLM_F_ACK);
      destroy.request.id = id;
      TRY(ask(diagnosis.get(), destroy));
      alignas(nlmsghdr) char answer[512];
      if (::recv(diagnosis.get(), answer, sizeof answer, 0) < 0) return os_error("recv", "sock_diag");
    }
  }
  return {};
}

}  // namespace deltabox
