/* Sets the wall clock of a process off by the seconds that a file names. Monotonic clocks stay, and so do waits: those
 * until a moment of the wall clock last as long as the process asked for when they began. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name, ...) \
  static int (*real)(__VA_ARGS__); \
  if (!real) real = (int (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static long shift(void) {
  char text[32] = {0};
  int before = errno;
  const char *path = getenv("CLOCK_SHIFT_FILE");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
  }
  errno = before;
  return atol(text);
}

/* A moment of the shifted wall clock by the kernel's; others (monotonic ones are small) stay. */
static struct timespec kernels(const struct timespec *until) {
  struct timespec at = *until;
  if (at.tv_sec > 1000000000) at.tv_sec -= shift();
  return at;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  REAL("clock_gettime", clockid_t, struct timespec *);
  int answer = real(clock, at);
  if (!answer && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += shift();
  return answer;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *out) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (out) *out = now.tv_sec;
  return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  struct timespec at = kernels(until);
  return real(cond, mutex, &at);
}

int pthread_cond_clockwait(pthread_cond_t *cond, pthread_mutex_t *mutex, clockid_t clock, const struct timespec *until) {
  REAL("pthread_cond_clockwait", pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
  struct timespec at = kernels(until);
  return real(cond, mutex, clock, &at);
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
  REAL("pthread_mutex_timedlock", pthread_mutex_t *, const struct timespec *);
  struct timespec at = kernels(until);
  return real(mutex, &at);
}

int sem_timedwait(sem_t *sem, const struct timespec *until) {
  REAL("sem_timedwait", sem_t *, const struct timespec *);
  struct timespec at = kernels(until);
  return real(sem, &at);
}

long syscall(long number, ...) {
  static long (*real)(long, ...);
  if (!real) real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
  long given[6];
  va_list rest;
  va_start(rest, number);
  for (int i = 0; i < 6; i++) given[i] = va_arg(rest, long);
  va_end(rest);
  struct timespec at;
  if (number == SYS_futex && (given[1] & FUTEX_CLOCK_REALTIME) && given[3]) {
    at = kernels((const struct timespec *)given[3]);
    given[3] = (long)&at;
  }
  return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
