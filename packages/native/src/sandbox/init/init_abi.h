// What the engine and the sandbox's pid 1 say to each other, over a SOCK_SEQPACKET pair. One packet is one message.
// Both sides are built together, so there is no version; init is trusted by nobody: the engine checks all it says,
// since a task inside that managed to take over init could say anything.
#pragma once

#include <cstdint>

namespace deltabox::init_abi {

inline constexpr int kControlFd = 3;
inline constexpr std::uint32_t kMaxMessageBytes = 192 * 1024;  // fits the default SO_SNDBUF of 208 KiB
inline constexpr std::uint32_t kMaxStrings = 8192;             // argv and env entries together

enum class Type : std::uint32_t {
  kSetUp = 1,    // engine → init: namespaces and mounts are ready; enable the rest
  kReady = 2,    // init → engine: with the filter's listener, where there is one
  kSpawn = 3,    // engine → init: SpawnHeader, then cwd, argv…, env… as NUL-terminated strings; three descriptors
  kSpawned = 4,  // init → engine: with SCM_CREDENTIALS naming the child
  kExited = 5,   // init → engine: a child was reaped
  kFailed = 6,   // init → engine: kSetUp, kSpawn or kSocket failed
  kSocket = 7,   // engine → init: SocketRequest; init → engine: the socket as a descriptor beside the reply
  kNextPid = 8,  // engine → init: NextPidRequest; init → engine: with the last pid before
  kStub = 9,     // engine → init: NextPidRequest; init → engine: kSpawned, for a child that waits to be traced
  kNextSegment = 10,  // engine → init: NextPidRequest, whose pid is the id of a segment; init → engine: nothing more
};

enum class Stage : std::uint32_t {
  kNone,
  kHostname,
  kLoopback,
  kSysctl,
  kFilter,
  kParse,
  kFork,
  kChdir,
  kExec,
  kTerminal,
  kUser,
  kLimits,
  kSocket,
  kNextPid,
};

inline constexpr std::uint32_t kMaxGroups = 32;  // supplementary groups of a command's user

struct SetUpRequest {
  Type type = Type::kSetUp;
  std::uint32_t own_network = 1;  // loopback is init's to bring up
  std::uint64_t open_files = 0;   // RLIMIT_NOFILE of tasks; 0: as inherited
  std::uint64_t processes = 0;    // RLIMIT_NPROC of tasks, by user; 0: as inherited
  std::uint64_t file_bytes = 0;   // RLIMIT_FSIZE of tasks; 0: as inherited
};
static_assert(sizeof(SetUpRequest) == 32);

// A socket keeps the network namespace in which it was made, and init is in that of the tasks.
struct SocketRequest {
  Type type = Type::kSocket;
  std::int32_t family = 0;
  std::int32_t kind = 0;
};
static_assert(sizeof(SocketRequest) == 12);

// The next task of the pid namespace gets this pid, where it is free. With kStub init makes it: a session leader
// without descriptors that has a task's capabilities and does nothing.
struct NextPidRequest {
  Type type = Type::kNextPid;
  std::int32_t pid = 0;
};
static_assert(sizeof(NextPidRequest) == 8);

struct SpawnHeader {
  Type type;
  std::uint32_t argument_count;
  std::uint32_t environment_count;
  std::uint32_t takes_terminal;  // 1: its standard input is a terminal, which becomes its session's controlling one
  std::uint32_t changes_user;    // 1: it runs as uid, gid and groups; 0: as root
  std::uint32_t uid;
  std::uint32_t gid;
  std::uint32_t group_count;
  std::uint32_t groups[kMaxGroups];
};
static_assert(sizeof(SpawnHeader) == 32 + 4 * kMaxGroups);

struct Reply {
  Type type;
  std::int32_t pid;     // inside
  std::int32_t status;  // kExited: as of wait4; kFailed: errno
  Stage stage;
};
static_assert(sizeof(Reply) == 16);

}  // namespace deltabox::init_abi
