"""The only code that talks to the kernel. It runs in a process that has already entered the lab.

apply      make the kernel contain what is missing and not what is extra; `changes` sorts what to do, `session` keeps
           the namespaces open, `describe` names an object in errors
observe    read everything back as the same objects; `veths` finds which two ends are a pair
netlink    messages and sockets; `links` and `addresses` turn objects into messages and back
iptables   chains by iptables-nft-restore and -save; nftables by `nft`; sysctl by /proc/sys
netns      namespaces by name: create, open, inside, remove
processes  programs in namespaces: run, run_many, spawn, Pool, start
identity   a pod's host name, resolv.conf and hosts for a process; control: the servers' control socket
syscalls   what Python's os lacks
facts      what this host can do
"""
