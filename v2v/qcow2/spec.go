package qcow2

// Names and numbers are those of QEMU's docs/interop/qcow2.txt. All integers are big-endian.
const (
	magic = "QFI\xfb"

	headerLengthV2 = 72
	headerLengthV3 = 104
	// headerLengthQemu is what QEMU writes: with the compression type, padded.
	headerLengthQemu = 112

	minClusterBits = 9
	maxClusterBits = 21
	// extendedMinClusterBits: a subcluster is a 32nd of a cluster and at least a sector.
	extendedMinClusterBits = 14
	maxRefcountOrder       = 6

	// Caps of QEMU (block/qcow2.h): QCOW_MAX_L1_SIZE, QCOW_MAX_REFTABLE_SIZE, QCOW_MAX_SNAPSHOTS.
	maxL1Bytes       = 32 << 20
	maxReftableBytes = 8 << 20
	maxSnapshots     = 65536
)

// Incompatible features, by bit.
const (
	incompatDirty        = 1 << 0
	incompatCorrupt      = 1 << 1
	incompatDataFile     = 1 << 2
	incompatCompression  = 1 << 3
	incompatExtendedL2   = 1 << 4
	incompatUnderstood   = incompatCompression | incompatExtendedL2
	compatLazyRefcounts  = 1 << 0
	autoclearBitmaps     = 1 << 0
	compressionZlib      = 0
	compressionZstd      = 1
	extensionEnd         = 0
	extensionBackingFmt  = 0xE2792ACA
	extensionFeatures    = 0x6803F857
	extensionDataFile    = 0x44415441
	extensionBitmaps     = 0x23852875
	extensionLUKS        = 0x0537BE77
	featureNameEntry     = 48
	bitmapsExtensionSize = 24
)

// Parts of L1 and L2 entries.
const (
	offsetMask   = 0x00fffffffffffe00 // bits 9-55
	copied       = 1 << 63
	compressed   = 1 << 62
	zeroFlag     = 1 << 0
	l1Reserved   = ^uint64(offsetMask | copied)
	l2Reserved   = ^uint64(offsetMask | copied | compressed | zeroFlag)
	l2ReservedV2 = l2Reserved | zeroFlag
)
