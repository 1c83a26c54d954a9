/*
 * The floor: the cheapest program that makes the same container as `carrack-oci run` of the benchmark's bundle.
 *
 * Six namespaces, a group in every cgroup hierarchy with its device rules, all mounts, devices, masked and read-only paths,
 * pivot_root, capabilities, exec. No configuration is read, nothing is checked against an attacker, no state is kept, and the
 * program does not protect itself: what is left is what the kernel takes. It is a yardstick and no part of Carrack.
 *
 *     floor ROOTFS PROGRAM [ARGUMENT...]
 *
 * The exit code is the program's; 125 when the container could not be made.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_GROUPS 16
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One hierarchy of version 1, or the only one of version 2. */
struct hierarchy {
    char controllers[64]; /* as in mount options: "cpu", "name=systemd"; empty for version 2 */
    char mounted[96];     /* the directory's name below /sys/fs/cgroup */
    char path[256];       /* our group */
    int handle;           /* its "tasks", open for writing; version 2: the directory */
};

static struct hierarchy groups[MOST_GROUPS];
static int group_count;
static int is_version_2;

static void die(const char *what)
{
    fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
    _exit(125);
}

static void must(int result, const char *what)
{
    if (result < 0)
        die(what);
}

static void write_file(const char *directory, const char *name, const char *text)
{
    char path[400];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int file = open(path, O_WRONLY | O_CLOEXEC);
    must(file, path);
    if (write(file, text, strlen(text)) < 0)
        die(path);
    close(file);
}

/* /proc/self/cgroup has a line N:CONTROLLERS:PATH for each hierarchy. */
static void find_groups(void)
{
    char text[4096];
    int file = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    must(file, "open /proc/self/cgroup");
    ssize_t got = read(file, text, sizeof text - 1);
    must((int)got, "read /proc/self/cgroup");
    close(file);
    text[got] = 0;
    is_version_2 = access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0;
    for (char *line = strtok(text, "\n"); line && group_count < MOST_GROUPS; line = strtok(NULL, "\n")) {
        char *controllers = strchr(line, ':') + 1;
        *strchr(controllers, ':') = 0;
        if ((*controllers == 0) != is_version_2)
            continue;
        struct hierarchy *group = &groups[group_count++];
        const char *mounted = strncmp(controllers, "name=", 5) ? controllers : controllers + 5;
        snprintf(group->controllers, sizeof group->controllers, "%s", controllers);
        snprintf(group->mounted, sizeof group->mounted, "%s", mounted);
        snprintf(group->path, sizeof group->path, "/sys/fs/cgroup%s%s/floor-%d", *mounted ? "/" : "", mounted, getpid());
    }
}

/* What config.json of the benchmark allows: nothing but the usual nodes and pseudo-terminals; any node may be made. */
static const char *const device_rules[] = {
    "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:5 rwm", "c 1:9 rwm", "c 5:1 rwm", "c 136:* rwm", "c 5:2 rwm",
};

static void make_groups(void)
{
    for (int i = 0; i < group_count; i++) {
        struct hierarchy *group = &groups[i];
        must(mkdir(group->path, 0755), group->path);
        if (is_version_2) {
            group->handle = open(group->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
            must(group->handle, group->path);
            continue;
        }
        if (!strcmp(group->controllers, "cpuset")) {
            /* A new group of version 1 has no processors and no memory nodes until it is told. */
            char text[256];
            const char *const files[] = {"cpuset.cpus", "cpuset.mems"};
            for (size_t j = 0; j < COUNT(files); j++) {
                char path[300];
                snprintf(path, sizeof path, "%.*s/%s", (int)(strrchr(group->path, '/') - group->path), group->path, files[j]);
                int file = open(path, O_RDONLY | O_CLOEXEC);
                must(file, path);
                ssize_t got = read(file, text, sizeof text - 1);
                must((int)got, path);
                close(file);
                text[got] = 0;
                write_file(group->path, files[j], text);
            }
        }
        if (!strcmp(group->controllers, "devices")) {
            write_file(group->path, "devices.deny", "a");
            for (size_t j = 0; j < COUNT(device_rules); j++)
                write_file(group->path, "devices.allow", device_rules[j]);
        }
        char path[300];
        snprintf(path, sizeof path, "%s/tasks", group->path);
        group->handle = open(path, O_WRONLY | O_CLOEXEC);
        must(group->handle, path);
    }
}

static void mount_cgroups(void)
{
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RELATIME;
    if (is_version_2) {
        must(mount("cgroup", "sys/fs/cgroup", "cgroup2", flags | MS_RDONLY, NULL), "mount cgroup2");
        return;
    }
    must(mount("tmpfs", "sys/fs/cgroup", "tmpfs", flags & ~MS_RELATIME, "mode=755"), "mount /sys/fs/cgroup");
    for (int i = 0; i < group_count; i++) {
        char path[200];
        snprintf(path, sizeof path, "sys/fs/cgroup/%s", groups[i].mounted);
        must(mkdir(path, 0755), path);
        must(mount("cgroup", path, "cgroup", flags | MS_RDONLY, groups[i].controllers), path);
    }
    must(mount(NULL, "sys/fs/cgroup", NULL, flags | MS_RDONLY | MS_REMOUNT | MS_BIND, NULL), "remount /sys/fs/cgroup");
}

static const struct { const char *path; unsigned major, minor; } nodes[] = {
    {"dev/null", 1, 3}, {"dev/zero", 1, 5}, {"dev/full", 1, 7}, {"dev/random", 1, 8}, {"dev/urandom", 1, 9}, {"dev/tty", 5, 0},
};

static const struct { const char *target, *path; } links[] = {
    {"/proc/self/fd", "dev/fd"}, {"/proc/self/fd/0", "dev/stdin"}, {"/proc/self/fd/1", "dev/stdout"},
    {"/proc/self/fd/2", "dev/stderr"}, {"/proc/kcore", "dev/core"}, {"pts/ptmx", "dev/ptmx"},
};

static void mount_all(const char *rootfs)
{
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "make / private");
    must(mount(rootfs, rootfs, NULL, MS_BIND | MS_REC, NULL), "bind the root");
    must(chdir(rootfs), rootfs);
    must(mount("proc", "proc", "proc", 0, NULL), "mount /proc");
    must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "mount /dev");
    must(mkdir("dev/pts", 0755) | mkdir("dev/shm", 0755) | mkdir("dev/mqueue", 0755), "make directories of /dev");
    must(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "mount /dev/pts");
    must(mount("shm", "dev/shm", "tmpfs", MS_NOSUID | MS_NOEXEC | MS_NODEV, "mode=1777,size=65536k"), "mount /dev/shm");
    must(mount("mqueue", "dev/mqueue", "mqueue", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL), "mount /dev/mqueue");
    must(mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NOEXEC | MS_NODEV | MS_RDONLY, NULL), "mount /sys");
    mount_cgroups();
    umask(0);
    for (size_t i = 0; i < COUNT(nodes); i++)
        must(mknod(nodes[i].path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)), nodes[i].path);
    umask(022);
    for (size_t i = 0; i < COUNT(links); i++)
        must(symlink(links[i].target, links[i].path), links[i].path);
    must((int)syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "detach the old root");
    must(chdir("/"), "chdir /");
}

static const char *const read_only[] = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
static const char *const masked[] = {
    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
};

static void close_paths(void)
{
    for (size_t i = 0; i < COUNT(read_only); i++) {
        if (mount(read_only[i], read_only[i], NULL, MS_BIND | MS_REC, NULL) < 0) {
            if (errno == ENOENT)
                continue;
            die(read_only[i]);
        }
        must(mount(NULL, read_only[i], NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_REC, NULL), read_only[i]);
    }
    for (size_t i = 0; i < COUNT(masked); i++) {
        if (mount("/dev/null", masked[i], NULL, MS_BIND, NULL) == 0 || errno == ENOENT)
            continue;
        if (errno != ENOTDIR)
            die(masked[i]);
        must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, "nr_blocks=1,nr_inodes=1"), masked[i]);
    }
}

static void bring_loopback_up(void)
{
    int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(sock, "socket");
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = IFF_UP;
    must(ioctl(sock, SIOCSIFFLAGS, &request), "bring lo up");
    close(sock);
}

static void drop_privileges(void)
{
    const uint64_t kept = 1ull << CAP_AUDIT_WRITE | 1ull << CAP_KILL | 1ull << CAP_NET_BIND_SERVICE;
    for (int capability = 0; capability <= 40; capability++)
        if (!(kept >> capability & 1))
            must(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0), "drop from the bounding set");
    must(setgroups(0, NULL), "setgroups");
    must(setresgid(0, 0, 0), "setresgid");
    must(setresuid(0, 0, 0), "setresuid");
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = (uint32_t)kept, .permitted = (uint32_t)kept}};
    must((int)syscall(SYS_capset, &header, data), "capset");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
}

static void become_container(const char *rootfs, char **argv)
{
    if (!is_version_2)
        for (int i = 0; i < group_count; i++)
            if (write(groups[i].handle, "0", 1) < 0)
                die(groups[i].path);
    must(unshare(CLONE_NEWCGROUP), "unshare the cgroup namespace");
    must(setsid(), "setsid");
    syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, "_ses.floor");
    bring_loopback_up();
    mount_all(rootfs);
    must(sethostname("floor", 5), "sethostname");
    close_paths();
    struct rlimit files = {1024, 1024};
    must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
    drop_privileges();
    syscall(SYS_close_range, 3, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
    char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", NULL};
    execve(argv[0], argv, environment);
    die(argv[0]);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: floor ROOTFS PROGRAM [ARGUMENT...]\n");
        return 125;
    }
    find_groups();
    make_groups();
    struct clone_args arguments = {
        .flags = CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS,
        .exit_signal = SIGCHLD,
    };
    if (is_version_2) {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = (uint64_t)groups[0].handle;
    }
    long child = syscall(SYS_clone3, &arguments, sizeof arguments);
    must((int)child, "clone3");
    if (child == 0)
        become_container(argv[1], argv + 2);
    int status;
    must(waitpid((pid_t)child, &status, 0), "waitpid");
    for (int i = 0; i < group_count; i++)
        must(rmdir(groups[i].path), groups[i].path);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
