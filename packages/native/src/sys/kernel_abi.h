// Kernel interfaces newer than the headers of the distributions we build on (Debian 12 ships those of 6.1). Each
// constant names the kernel that introduced it; layouts are asserted.
#pragma once

#include <linux/ioctl.h>
#include <linux/types.h>

#include <cstdint>

namespace deltabox::abi {

inline constexpr unsigned kMoveMountBeneath = 0x200;                  // 6.5
inline constexpr std::uint64_t kUffdFeatureWpUnpopulated = 1u << 13;  // 6.4
inline constexpr std::uint64_t kUffdFeatureWpAsync = 1u << 15;        // 6.7
inline constexpr int kUffdUserModeOnly = 1;                           // 5.11

// PAGEMAP_SCAN, 6.7 (include/uapi/linux/fs.h).
inline constexpr std::uint64_t kPageIsWritten = 1u << 1;
inline constexpr std::uint64_t kPageIsFile = 1u << 2;
inline constexpr std::uint64_t kPageIsPresent = 1u << 3;
inline constexpr std::uint64_t kPageIsSwapped = 1u << 4;
inline constexpr std::uint64_t kPageIsPfnZero = 1u << 5;

struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
static_assert(sizeof(PageRegion) == 24);

inline constexpr std::uint64_t kPmScanWpMatching = 1u << 0;
inline constexpr std::uint64_t kPmScanCheckWpAsync = 1u << 1;

struct PmScanArg {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t vec;
  std::uint64_t vec_len;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};
static_assert(sizeof(PmScanArg) == 96);
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, PmScanArg);

// PROCMAP_QUERY, 6.11.
inline constexpr std::uint64_t kProcmapVmaReadable = 1u << 0;
inline constexpr std::uint64_t kProcmapVmaWritable = 1u << 1;
inline constexpr std::uint64_t kProcmapVmaExecutable = 1u << 2;
inline constexpr std::uint64_t kProcmapVmaShared = 1u << 3;
inline constexpr std::uint64_t kProcmapCoveringOrNext = 1u << 4;
inline constexpr std::uint64_t kProcmapFileBacked = 1u << 5;

struct ProcmapQuery {
  std::uint64_t size;
  std::uint64_t query_flags;
  std::uint64_t query_addr;
  std::uint64_t vma_start;
  std::uint64_t vma_end;
  std::uint64_t vma_flags;
  std::uint64_t vma_page_size;
  std::uint64_t vma_offset;
  std::uint64_t inode;
  std::uint32_t dev_major;
  std::uint32_t dev_minor;
  std::uint32_t vma_name_size;
  std::uint32_t build_id_size;
  std::uint64_t vma_name_addr;
  std::uint64_t build_id_addr;
};
static_assert(sizeof(ProcmapQuery) == 104);
inline constexpr unsigned long kProcmapQuery = _IOWR('f', 17, ProcmapQuery);

// PTRACE_GET_RSEQ_CONFIGURATION, 5.13.
inline constexpr int kPtraceGetRseqConfiguration = 0x420f;
struct RseqConfiguration {
  std::uint64_t rseq_abi_pointer;
  std::uint32_t rseq_abi_size;
  std::uint32_t signature;
  std::uint32_t flags;
  std::uint32_t pad;
};
static_assert(sizeof(RseqConfiguration) == 24);

inline constexpr int kKcmpFile = 0;
inline constexpr int kKcmpEpollTfd = 7;  // 4.13
struct KcmpEpollSlot {
  std::uint32_t epoll_fd;
  std::uint32_t entry_fd;
  std::uint32_t before;
};
static_assert(sizeof(KcmpEpollSlot) == 12);

// SECCOMP_IOCTL_NOTIF_SET_FLAGS and SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP, 6.6.
inline constexpr unsigned long kSeccompNotifSetFlags = _IOW('!', 4, std::uint64_t);
inline constexpr std::uint64_t kSeccompSyncWakeUp = 1;

// prctl(2).
inline constexpr std::uint64_t kSetDenyWriteExecute = 65;  // PR_SET_MDWE, 6.3
inline constexpr std::uint64_t kGetDenyWriteExecute = 66;
inline constexpr std::uint32_t kRefuseExecGain = 1;
inline constexpr std::uint32_t kDenyNoInherit = 2;     // 6.7
inline constexpr std::uint64_t kTimerRestoreIds = 77;  // PR_TIMER_CREATE_RESTORE_IDS, 6.15

}  // namespace deltabox::abi
