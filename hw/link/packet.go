package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// packetSocket sends and receives the payload of link-layer frames of one protocol on one interface (packet(7),
// SOCK_DGRAM): no address has to be configured for that.
type packetSocket struct {
	index int
	mac   net.HardwareAddr
	proto uint16 // network byte order
	file  *os.File
	raw   syscall.RawConn
}

// openPacketSocket hears frames of proto (ETH_P_*) that filter lets through.
func openPacketSocket(name string, proto uint16, filter []bpf.Instruction) (*packetSocket, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, err
	}
	if len(i.HardwareAddr) != 6 {
		return nil, fmt.Errorf("%s is no Ethernet", name)
	}
	// Protocol 0 until the filter is in place: nothing that it would not let through is queued before.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s := &packetSocket{index: i.Index, mac: i.HardwareAddr, proto: proto<<8 | proto>>8}
	if err := s.setUp(fd, filter); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	s.file = os.NewFile(uintptr(fd), "packet")
	if s.raw, err = s.file.SyscallConn(); err != nil {
		s.close()
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	return s, nil
}

func (s *packetSocket) setUp(fd int, filter []bpf.Instruction) error {
	program, err := bpf.Assemble(filter)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(program))
	for i, p := range program {
		code[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		return err
	}
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: s.proto, Ifindex: s.index})
}

// close ends a receive that is under way.
func (s *packetSocket) close() { s.file.Close() }

func (s *packetSocket) broadcast(payload []byte) error {
	to := &unix.SockaddrLinklayer{Protocol: s.proto, Ifindex: s.index, Halen: 6}
	copy(to.Addr[:], "\xff\xff\xff\xff\xff\xff") // all stations
	var failure error
	err := s.raw.Write(func(fd uintptr) bool {
		failure = unix.Sendto(int(fd), payload, 0, to)
		return !errors.Is(failure, unix.EAGAIN)
	})
	return errors.Join(err, failure)
}

// receive returns the next payload. checked is false where a checksum within was left to hardware that it never
// passed: the sender runs on this machine, or on its hypervisor (TP_STATUS_CSUMNOTREADY, packet(7)).
func (s *packetSocket) receive(buf []byte) (payload []byte, checked bool, err error) {
	var failure error
	var n, oobn int
	oob := make([]byte, unix.CmsgSpace(sizeofAuxdata))
	err = s.raw.Read(func(fd uintptr) bool {
		n, oobn, _, _, failure = unix.Recvmsg(int(fd), buf, oob, 0)
		return !errors.Is(failure, unix.EAGAIN) && !errors.Is(failure, unix.EINTR)
	})
	if err := errors.Join(err, failure); err != nil {
		return nil, false, err
	}
	checked = true
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, false, err
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA {
			checked = number(m.Data)&unix.TP_STATUS_CSUMNOTREADY == 0
		}
	}
	return buf[:n], checked, nil
}

// sizeofAuxdata is that of struct tpacket_auxdata (include/uapi/linux/if_packet.h).
const sizeofAuxdata = 20
