// Works, and writes whole pages of its memory at a set rate, one after the other and over again.
//
// Usage: page-writer MIB RATE   (RATE: pages a second; 0: none; -1: as fast as it can, without other work)
// Each line on stdin is answered by "UNITS PAGES NANOSECONDS": work done and pages written since the start, and the clock.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

// A unit of work takes about a microsecond. Reading stdin costs a system call: rare beside the work, often enough to
// answer within some milliseconds.
enum { PAGE_BYTES = 4096, STEPS_PER_UNIT = 500, UNITS_PER_POLL = 4096 };

static long long now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static uint64_t work(uint64_t state) {
  for (int step = 0; step < STEPS_PER_UNIT; ++step) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
  }
  return state;
}

int main(int count, char **arguments) {
  if (count != 3) return 2;
  const size_t bytes = strtoul(arguments[1], NULL, 10) << 20;
  const double rate = strtod(arguments[2], NULL);
  unsigned char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 1;
  const size_t pages = bytes / PAGE_BYTES;
  memset(memory, 1, bytes);
  fcntl(0, F_SETFL, O_NONBLOCK);
  const long long start_ns = now_ns();
  long long units = 0;
  long long written = 0;
  volatile uint64_t kept = 88172645463325252ULL;
  for (;;) {
    for (int unit = 0; unit < UNITS_PER_POLL; ++unit) {
      long long due = written + 1;
      if (rate >= 0) {
        kept = work(kept);
        ++units;
        due = (long long)(rate * (double)(now_ns() - start_ns) / 1e9);
      }
      for (; written < due; ++written) {
        const size_t page = (size_t)written % pages;
        memset(memory + page * PAGE_BYTES, (int)(written / (long long)pages + 2), PAGE_BYTES);
      }
    }
    char line[64];
    const ssize_t got = read(0, line, sizeof(line));
    if (got == 0) return 0;
    if (got < 0) continue;
    printf("%lld %lld %lld\n", units, written, now_ns());
    fflush(stdout);
  }
}
