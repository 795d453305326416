// setup.py includes this before each source. The library then asks for those versions of glibc's functions that every
// glibc has, and runs on systems older than the one that compiled it, as the wheels' manylinux_2_28 demands. glibc 2.29
// has new versions of exp and log without the error handling of System V (its math/w_exp.c); they compute the same.
#include <cmath>

#if defined(__GLIBC__) && defined(__x86_64__)
__asm__(".symver exp,exp@GLIBC_2.2.5");
__asm__(".symver log,log@GLIBC_2.2.5");
#elif defined(__GLIBC__) && defined(__aarch64__)
__asm__(".symver exp,exp@GLIBC_2.17");
__asm__(".symver log,log@GLIBC_2.17");
#endif
