package vm

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The pcap file format (draft-ietf-opsawg-pcap), microseconds, Ethernet.
const (
	pcapMagic    = 0xa1b2c3d4
	pcapEthernet = 1
)

// capture writes the frames of a wire to a file that wireshark and tcpdump read. Safe for concurrent use.
type capture struct {
	mu   sync.Mutex
	file *os.File
	err  error
}

func newCapture(path string) (*capture, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	header := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	header = binary.LittleEndian.AppendUint16(header, 2) // version 2.4
	header = binary.LittleEndian.AppendUint16(header, 4)
	header = append(header, make([]byte, 8)...)
	header = binary.LittleEndian.AppendUint32(header, maxFrame)
	header = binary.LittleEndian.AppendUint32(header, pcapEthernet)
	_, err = f.Write(header)
	return &capture{file: f}, err
}

func (c *capture) frame(data []byte) {
	now := time.Now()
	record := binary.LittleEndian.AppendUint32(nil, uint32(now.Unix()))
	record = binary.LittleEndian.AppendUint32(record, uint32(now.Nanosecond()/1000))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(data)))
	record = binary.LittleEndian.AppendUint32(record, uint32(len(data)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		_, c.err = c.file.Write(append(record, data...))
	}
}

func (c *capture) close(remove bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := errors.Join(c.err, c.file.Close())
	c.err = os.ErrClosed
	if remove {
		err = errors.Join(err, os.Remove(c.file.Name()))
	}
	return err
}
