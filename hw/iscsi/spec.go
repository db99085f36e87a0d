package iscsi

// Opcodes (RFC 7143, 11.2.1.2). Those of a target have bit 5 set.
const (
	opNopOut       = 0x00
	opLoginRequest = 0x03
	opTextRequest  = 0x04
	opLogoutReq    = 0x06
	opNopIn        = 0x20
	opLoginReply   = 0x23
	opTextReply    = 0x24
	opLogoutReply  = 0x26
	opAsync        = 0x32
	opReject       = 0x3f

	opImmediate = 0x40
	opMask      = 0x3f
)

// headerSize is the length of a basic header segment.
const headerSize = 48

// Flags in byte 1 of login and text PDUs.
const (
	flagTransit  = 0x80 // T of a login, F of a text PDU
	flagContinue = 0x40 // C
)

// Stages of a login (RFC 7143, 11.12.3).
const (
	stageSecurity    = 0
	stageOperational = 1
	stageFull        = 3
)

// reservedTag is the value of a task tag that means none.
const reservedTag = 0xffffffff

// DefaultPort is iSCSI's, where a portal names none.
const DefaultPort = 3260

// Bounds of what a target may send.
const (
	// maxLoginData is the data of one login PDU: the default MaxRecvDataSegmentLength, which holds until full feature phase.
	maxLoginData = 8192
	// maxJoined bounds a text that comes in several PDUs by the C bit, during a login.
	maxJoined = 64 << 10
	// maxTargets bounds the answer to SendTargets: some ten thousand targets.
	maxTargets = 8 << 20
	// maxPairs bounds the pairs of one text of a login.
	maxPairs = 256
	// maxRounds bounds the requests of one login; a sane one takes two to six.
	maxRounds = 32
	// maxRedirects bounds how often one login follows another address.
	maxRedirects = 4
	// maxKey is the length of a key (RFC 7143, 6.1).
	maxKey = 63
)

// Keys (RFC 7143, chapters 12 and 13).
const (
	keyInitiatorName = "InitiatorName"
	keySessionType   = "SessionType"
	keyTargetName    = "TargetName"
	keyTargetAddress = "TargetAddress"
	keyTargetAlias   = "TargetAlias"
	keyTargetTag     = "TargetPortalGroupTag"
	keyAuthMethod    = "AuthMethod"
	keySendTargets   = "SendTargets"

	keyHeaderDigest   = "HeaderDigest"
	keyDataDigest     = "DataDigest"
	keyMaxRecv        = "MaxRecvDataSegmentLength"
	keyInitialR2T     = "InitialR2T"
	keyImmediateData  = "ImmediateData"
	keyMaxBurst       = "MaxBurstLength"
	keyFirstBurst     = "FirstBurstLength"
	keyMaxR2T         = "MaxOutstandingR2T"
	keyMaxConnections = "MaxConnections"
	keyErrorRecovery  = "ErrorRecoveryLevel"
	keyTime2Wait      = "DefaultTime2Wait"
	keyTime2Retain    = "DefaultTime2Retain"
	keyPDUInOrder     = "DataPDUInOrder"
	keySeqInOrder     = "DataSequenceInOrder"

	keyCHAPAlgorithm = "CHAP_A"
	keyCHAPIdent     = "CHAP_I"
	keyCHAPChallenge = "CHAP_C"
	keyCHAPName      = "CHAP_N"
	keyCHAPResponse  = "CHAP_R"
)

// Answers that a key may get instead of a value (RFC 7143, 6.2).
const (
	answerReject        = "Reject"
	answerIrrelevant    = "Irrelevant"
	answerNotUnderstood = "NotUnderstood"
)

const (
	yes       = "Yes"
	no        = "No"
	none      = "None"
	digestCRC = "CRC32C"
	authCHAP  = "CHAP"
)
