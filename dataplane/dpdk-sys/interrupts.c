/* Keeps DPDK's interrupt thread away from what others are in the middle of.
 *
 * DPDK's memif driver connects and disconnects a port on the interrupt thread, when its peer comes
 * or goes, without regard to workers: it unmaps the memory that both processes share while a worker
 * copies a packet out of it, and the worker dies of that. Nor does it mind that the port is being
 * closed, or that all of DPDK ends.
 *
 * So that thread lets go of `handling` only while it waits, and takes all of `in_burst` besides
 * before it handles anything. A worker holds its own of these while it is in a burst of such a port,
 * and never waits for it: as long as an interrupt is handled such ports receive and take nothing.
 */
#define _GNU_SOURCE
#include "shim.h"

#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_lcore.h>

static pthread_mutex_t handling = PTHREAD_MUTEX_INITIALIZER;
/* Set once, with `handling` held. */
static bool ended;

/* One for each thread that DPDK knows, and one for all others. */
static struct {
    pthread_mutex_t lock;
} __rte_cache_aligned in_burst[RTE_MAX_LCORE + 1] = {
    [0 ... RTE_MAX_LCORE] = { PTHREAD_MUTEX_INITIALIZER },
};

static pthread_mutex_t *burst_lock(void)
{
    unsigned int thread = rte_lcore_id();

    return &in_burst[thread < RTE_MAX_LCORE ? thread : RTE_MAX_LCORE].lock;
}

bool spw_port_shares_memory(uint16_t port)
{
    struct rte_eth_dev_info info;

    return rte_eth_dev_info_get(port, &info) == 0 && strcmp(info.driver_name, "net_memif") == 0;
}

uint16_t spw_shared_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t room,
                             uint64_t *not_linear)
{
    pthread_mutex_t *lock = burst_lock();
    uint16_t count;

    if (unlikely(pthread_mutex_trylock(lock) != 0))
        return 0;
    count = spw_rx_burst(port, queue, mbufs, room, not_linear);
    pthread_mutex_unlock(lock);
    return count;
}

uint16_t spw_shared_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
    pthread_mutex_t *lock = burst_lock();

    if (unlikely(pthread_mutex_trylock(lock) != 0))
        return 0;
    count = spw_tx_burst(port, queue, mbufs, count);
    pthread_mutex_unlock(lock);
    return count;
}

void spw_interrupts_hold(void)
{
    pthread_mutex_lock(&handling);
}

void spw_interrupts_release(void)
{
    pthread_mutex_unlock(&handling);
}

void spw_interrupts_end(void)
{
    pthread_mutex_lock(&handling);
    ended = true;
    pthread_mutex_unlock(&handling);
}

/* Of the interrupt thread: everything, before it handles what came. */
static void hold_everything(void)
{
    pthread_mutex_lock(&handling);
    if (ended) {
        pthread_mutex_unlock(&handling);
        /* What it would handle is gone. */
        for (;;)
            pause();
    }
    for (unsigned int thread = 0; thread <= RTE_MAX_LCORE; thread++)
        pthread_mutex_lock(&in_burst[thread].lock);
}

static void release_everything(void)
{
    for (unsigned int thread = 0; thread <= RTE_MAX_LCORE; thread++)
        pthread_mutex_unlock(&in_burst[thread].lock);
    pthread_mutex_unlock(&handling);
}

/* Stands before libc's epoll_wait for the whole process: that is where DPDK's interrupt thread
 * waits, and the only place where it can be met. For all other threads nothing changes. */
__attribute__((visibility("default"))) int epoll_wait(int fd, struct epoll_event *events, int room,
                                                      int timeout)
{
    /* The interrupt thread's alone. */
    static bool holds;
    int count;

    if (!rte_thread_is_intr())
        return epoll_pwait(fd, events, room, timeout, NULL);
    if (holds)
        release_everything();
    count = epoll_pwait(fd, events, room, timeout, NULL);
    hold_everything();
    holds = true;
    return count;
}
