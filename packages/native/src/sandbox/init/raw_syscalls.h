// System calls without libc, for pid 1. errno comes back as a negative number, as the kernel returns it.
#pragma once

#include <sys/syscall.h>

#include <cstdint>

namespace deltabox::raw {

inline long call(long number, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0, long f = 0) {
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  long result;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <typename T>
inline long address(T* pointer) {
  return reinterpret_cast<long>(pointer);
}

}  // namespace deltabox::raw
