//! The output side's `unsafe` lines: muxers, encoders, subtitle converters, for [`super::super::output`] and its
//! neighbours.

use ffmpeg_next::{
    Error, Packet, Rational, codec, color, ffi as sys, format::Pixel, frame::Video, util::interrupt,
};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Error>;

fn check(code: c_int) -> Result<c_int> {
    if code < 0 {
        Err(Error::from(code))
    } else {
        Ok(code)
    }
}

/// A C string; text after a NUL, which no name of FFmpeg's has, is cut.
fn c_string(text: impl AsRef<[u8]>) -> CString {
    let bytes = text.as_ref();
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    CString::new(&bytes[..end]).unwrap_or_default()
}

/// A C string as text; bytes that are not UTF-8 are replaced.
fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and FFmpeg's strings end in NUL.
    unsafe { CStr::from_ptr(text) }
        .to_string_lossy()
        .into_owned()
}

// -- dictionaries --

/// An owned `AVDictionary`. ffmpeg-next's reads values as UTF-8 unchecked, which metadata need not be.
pub struct Dict(*mut sys::AVDictionary);

// SAFETY: a dictionary is plain memory with one owner.
unsafe impl Send for Dict {}

impl Dict {
    pub fn new() -> Self {
        Self(ptr::null_mut())
    }

    /// A deep copy of somebody else's dictionary.
    fn copy_of(other: *const sys::AVDictionary) -> Self {
        let mut dict = Self::new();
        // SAFETY: `other` is null or a live dictionary; the copy is owned by `dict`.
        unsafe { sys::av_dict_copy(&mut dict.0, other, 0) };
        dict
    }

    pub fn set(&mut self, key: &str, value: &str) {
        let (key, value) = (c_string(key), c_string(value));
        // SAFETY: FFmpeg copies both strings.
        unsafe { sys::av_dict_set(&mut self.0, key.as_ptr(), value.as_ptr(), 0) };
    }

    pub fn get(&self, key: &str) -> Option<String> {
        let key = c_string(key);
        // SAFETY: the entry lives as long as the dictionary is not changed; its text is copied at once.
        unsafe {
            let entry = sys::av_dict_get(self.0, key.as_ptr(), ptr::null(), 0);
            (!entry.is_null()).then(|| text_of((*entry).value))
        }
    }

    /// Removes every key that `unwanted` says yes to.
    pub fn remove(&mut self, unwanted: impl Fn(&str) -> bool) {
        for key in self.keys().iter().filter(|k| unwanted(k)) {
            let key = c_string(key);
            // SAFETY: a null value removes the entry.
            unsafe { sys::av_dict_set(&mut self.0, key.as_ptr(), ptr::null(), 0) };
        }
    }

    pub fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut entry = ptr::null();
        let all = c_string("");
        // SAFETY: walks the live dictionary, which is not changed meanwhile.
        unsafe {
            loop {
                entry = sys::av_dict_get(self.0, all.as_ptr(), entry, sys::AV_DICT_IGNORE_SUFFIX);
                if entry.is_null() {
                    return keys;
                }
                keys.push(text_of((*entry).key));
            }
        }
    }

    /// Gives the dictionary away.
    fn into_raw(mut self) -> *mut sys::AVDictionary {
        std::mem::replace(&mut self.0, ptr::null_mut())
    }
}

impl Clone for Dict {
    fn clone(&self) -> Self {
        Self::copy_of(self.0)
    }
}

impl Drop for Dict {
    fn drop(&mut self) {
        // SAFETY: owned; freeing null is allowed.
        unsafe { sys::av_dict_free(&mut self.0) };
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Dict {
    fn from_iter<T: IntoIterator<Item = (&'a str, &'a str)>>(pairs: T) -> Self {
        let mut dict = Self::new();
        pairs.into_iter().for_each(|(k, v)| dict.set(k, v));
        dict
    }
}

// -- muxers --

/// A muxer's description: static data of libavformat.
#[derive(Clone, Copy)]
pub struct Format(*const sys::AVOutputFormat);

// SAFETY: libavformat's own static, constant data.
unsafe impl Send for Format {}

/// Whether a muxer holds a codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    Yes,
    No,
    /// The muxer does not say.
    Unknown,
}

impl Format {
    /// By muxer name.
    pub fn named(name: &str) -> Option<Self> {
        let name = c_string(name);
        // SAFETY: looks a name up in static tables.
        Self::found(unsafe { sys::av_guess_format(name.as_ptr(), ptr::null(), ptr::null()) })
    }

    /// By the extension of a file name.
    pub fn of_file(file: &[u8]) -> Option<Self> {
        let file = c_string(file);
        // SAFETY: looks an extension up in static tables.
        Self::found(unsafe { sys::av_guess_format(ptr::null(), file.as_ptr(), ptr::null()) })
    }

    fn found(format: *const sys::AVOutputFormat) -> Option<Self> {
        (!format.is_null()).then_some(Self(format))
    }

    fn raw(&self) -> &sys::AVOutputFormat {
        // SAFETY: never null, static.
        unsafe { &*self.0 }
    }

    pub fn name(&self) -> String {
        text_of(self.raw().name)
    }

    fn flag(&self, flag: c_int) -> bool {
        self.raw().flags & flag != 0
    }

    /// Writes its files itself (image sequences, playlists).
    pub fn opens_its_files(&self) -> bool {
        self.flag(sys::AVFMT_NOFILE)
    }

    /// Wants the codecs' headers once, in front.
    pub fn global_header(&self) -> bool {
        self.flag(sys::AVFMT_GLOBALHEADER)
    }

    /// Takes two packets of a stream with the same decoding time.
    pub fn takes_equal_times(&self) -> bool {
        self.flag(sys::AVFMT_TS_NONSTRICT)
    }

    /// Whether it holds anything beside one picture stream.
    pub fn picture_only(&self) -> bool {
        let none = sys::AVCodecID::AV_CODEC_ID_NONE;
        self.raw().audio_codec == none && self.raw().subtitle_codec == none
    }

    pub fn video_codec(&self) -> codec::Id {
        self.raw().video_codec.into()
    }

    /// The picture codec that fits a file name's extension.
    pub fn video_codec_of(&self, file: &[u8]) -> codec::Id {
        let file = c_string(file);
        // SAFETY: static format, NUL-terminated name.
        let id = unsafe {
            sys::av_guess_codec(
                self.0 as *mut _,
                ptr::null(),
                file.as_ptr(),
                ptr::null(),
                sys::AVMediaType::AVMEDIA_TYPE_VIDEO,
            )
        };
        id.into()
    }

    pub fn holds(&self, codec: codec::Id) -> Holds {
        // SAFETY: static format.
        let answer = unsafe {
            sys::avformat_query_codec(self.0, codec.into(), sys::FF_COMPLIANCE_EXPERIMENTAL)
        };
        match answer {
            1 => Holds::Yes,
            0 => Holds::No,
            _ => Holds::Unknown,
        }
    }
}

/// A copied stream as it stands in the source: everything that the output needs of it, owned.
#[derive(Clone)]
pub struct StreamCopy {
    parameters: codec::Parameters,
    pub metadata: Dict,
    disposition: c_int,
    time_base: Rational,
    frame_rate: Rational,
    raw_rate: Rational,
    sample_aspect: Rational,
    side_data: Vec<(sys::AVPacketSideDataType, Vec<u8>)>,
    picture: Option<Packet>,
}

/// Kinds of stream, as the output treats them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Video,
    Audio,
    Subtitle,
    Attachment,
    /// A still picture that stands for the film.
    Cover,
    /// Data, or something that FFmpeg does not know.
    Data,
}

/// Side data that is true of the picture however it is coded.
const PICTURE_SIDE_DATA: [sys::AVPacketSideDataType; 5] = {
    use sys::AVPacketSideDataType::*;
    [
        AV_PKT_DATA_DISPLAYMATRIX,
        AV_PKT_DATA_STEREO3D,
        AV_PKT_DATA_SPHERICAL,
        AV_PKT_DATA_MASTERING_DISPLAY_METADATA,
        AV_PKT_DATA_CONTENT_LIGHT_LEVEL,
    ]
};

impl StreamCopy {
    /// Keeps only side data that is true of the picture however it is coded; whether a Dolby Vision configuration
    /// went with the rest.
    pub fn keep_picture_side_data(&mut self) -> bool {
        let dolby = sys::AVPacketSideDataType::AV_PKT_DATA_DOVI_CONF;
        let had = self.side_data.iter().any(|(kind, _)| *kind == dolby);
        self.side_data
            .retain(|(kind, _)| PICTURE_SIDE_DATA.contains(kind));
        had
    }

    /// Adds side data of a kind that the stream has not.
    pub fn add_side_data(&mut self, kind: codec::packet::side_data::Type, bytes: Vec<u8>) {
        if self.side_data(kind).is_none() {
            self.side_data.push((kind.into(), bytes));
        }
    }

    pub fn of(stream: &ffmpeg_next::format::stream::Stream) -> Self {
        // SAFETY: the stream's context outlives `stream`; every field is copied here.
        let raw = unsafe { &*stream.as_ptr() };
        Self {
            parameters: stream.parameters().clone(),
            metadata: Dict::copy_of(raw.metadata),
            disposition: raw.disposition,
            time_base: raw.time_base.into(),
            frame_rate: raw.avg_frame_rate.into(),
            raw_rate: raw.r_frame_rate.into(),
            sample_aspect: raw.sample_aspect_ratio.into(),
            side_data: side_data_of(raw),
            picture: attached_picture(raw),
        }
    }

    fn raw(&self) -> &sys::AVCodecParameters {
        // SAFETY: owned parameters are never null.
        unsafe { &*self.parameters.as_ptr() }
    }

    pub fn kind(&self) -> Kind {
        use sys::AVMediaType::*;
        match self.raw().codec_type {
            AVMEDIA_TYPE_VIDEO if self.disposition & sys::AV_DISPOSITION_ATTACHED_PIC != 0 => {
                Kind::Cover
            }
            AVMEDIA_TYPE_VIDEO => Kind::Video,
            AVMEDIA_TYPE_AUDIO => Kind::Audio,
            AVMEDIA_TYPE_SUBTITLE => Kind::Subtitle,
            AVMEDIA_TYPE_ATTACHMENT => Kind::Attachment,
            _ => Kind::Data,
        }
    }

    pub fn codec(&self) -> codec::Id {
        self.raw().codec_id.into()
    }

    /// FFmpeg's name of the codec.
    pub fn codec_name(&self) -> String {
        // SAFETY: returns static text for every id.
        text_of(unsafe { sys::avcodec_get_name(self.raw().codec_id) })
    }

    /// The four characters by which the source's container names the codec.
    pub fn tag(&self) -> [u8; 4] {
        self.raw().codec_tag.to_le_bytes()
    }

    pub fn is_text_subtitle(&self) -> bool {
        // SAFETY: static descriptors.
        unsafe {
            let descriptor = sys::avcodec_descriptor_get(self.raw().codec_id);
            !descriptor.is_null() && (*descriptor).props & sys::AV_CODEC_PROP_TEXT_SUB as c_int != 0
        }
    }

    /// Samples before the first that is to be heard, in seconds as a fraction.
    pub fn padding(&self) -> (i64, Rational) {
        let raw = self.raw();
        (
            i64::from(raw.initial_padding),
            Rational(1, raw.sample_rate.max(1)),
        )
    }

    /// The attached picture's bytes.
    pub fn picture(&self) -> Option<&[u8]> {
        self.picture.as_ref().and_then(Packet::data)
    }

    /// Bytes of stream side data of one kind.
    pub fn side_data(&self, kind: codec::packet::side_data::Type) -> Option<&[u8]> {
        let kind: sys::AVPacketSideDataType = kind.into();
        let found = self.side_data.iter().find(|(k, _)| *k == kind);
        found.map(|(_, data)| data.as_slice())
    }
}

fn side_data_of(stream: &sys::AVStream) -> Vec<(sys::AVPacketSideDataType, Vec<u8>)> {
    (0..stream.nb_side_data as usize)
        .map(|i| {
            // SAFETY: `nb_side_data` entries, each with `size` readable bytes.
            unsafe {
                let entry = &*stream.side_data.add(i);
                let bytes = std::slice::from_raw_parts(entry.data, entry.size);
                (entry.type_, bytes.to_vec())
            }
        })
        .collect()
}

fn attached_picture(stream: &sys::AVStream) -> Option<Packet> {
    if stream.disposition & sys::AV_DISPOSITION_ATTACHED_PIC == 0
        || stream.attached_pic.data.is_null()
    {
        return None;
    }
    // SAFETY: not null, `size` readable bytes.
    let data = unsafe {
        std::slice::from_raw_parts(stream.attached_pic.data, stream.attached_pic.size as usize)
    };
    Some(Packet::copy(data))
}

/// Where a muxer's bytes go.
enum Io {
    /// The muxer opens its files itself, or nothing is open.
    None,
    File,
    /// A growing buffer that is thrown away: to try a header.
    Memory,
}

/// A muxer at work.
pub struct Mux {
    context: *mut sys::AVFormatContext,
    io: Io,
    /// When it was last handed something, in milliseconds after its making.
    since: Arc<AtomicU64>,
    made: Instant,
    /// What libavformat asks while it waits; outlives the context.
    impatience: Option<interrupt::InterruptGuard>,
}

// SAFETY: the context has one owner, and libavformat keeps nothing of it in thread-local memory.
unsafe impl Send for Mux {}

impl Mux {
    /// A muxer that will write to `url` (bytes as the operating system has them).
    pub fn new(format: Format, url: &[u8]) -> Result<Self> {
        let url = c_string(url);
        let mut context = ptr::null_mut();
        // SAFETY: FFmpeg allocates the context, or leaves null and an error.
        check(unsafe {
            sys::avformat_alloc_output_context2(
                &mut context,
                format.0 as *mut _,
                ptr::null(),
                url.as_ptr(),
            )
        })?;
        Ok(Self {
            context,
            io: Io::None,
            since: Arc::default(),
            made: Instant::now(),
            impatience: None,
        })
    }

    fn raw(&mut self) -> &mut sys::AVFormatContext {
        // SAFETY: never null, owned.
        unsafe { &mut *self.context }
    }

    /// From now on nothing that is handed over may take longer.
    pub fn hurry(&mut self, patience: Duration) {
        let (since, made) = (self.since.clone(), self.made);
        let late = move || {
            let since = Duration::from_millis(since.load(Ordering::Relaxed));
            made.elapsed().saturating_sub(since) > patience
        };
        let asked = interrupt::new(Box::new(late));
        self.raw().interrupt_callback = asked.interrupt;
        self.impatience = Some(asked.guard);
    }

    /// Something is handed over now.
    fn begin(&self) {
        let passed = self.made.elapsed().as_millis() as u64;
        self.since.store(passed, Ordering::Relaxed);
    }

    /// Opens the file, pipe or connection.
    pub fn open(&mut self) -> Result<()> {
        self.begin();
        let raw = self.raw();
        // SAFETY: `pb` is null until here; `url` was set by `new`; the callback lives as long as the context.
        check(unsafe {
            sys::avio_open2(
                &mut raw.pb,
                raw.url,
                sys::AVIO_FLAG_WRITE,
                &raw.interrupt_callback,
                ptr::null_mut(),
            )
        })?;
        self.io = Io::File;
        Ok(())
    }

    /// Writes to memory which nobody reads.
    pub fn open_memory(&mut self) -> Result<()> {
        // SAFETY: `pb` is null until here.
        check(unsafe { sys::avio_open_dyn_buf(&mut self.raw().pb) })?;
        self.io = Io::Memory;
        Ok(())
    }

    /// Flushes and closes; what the disk refuses late is said here.
    pub fn close(&mut self) -> Result<()> {
        self.begin();
        let code = match self.io {
            Io::None => 0,
            // SAFETY: opened by `avio_open`; sets `pb` to null.
            Io::File => unsafe { sys::avio_closep(&mut self.raw().pb) },
            Io::Memory => {
                self.take_memory();
                0
            }
        };
        self.io = Io::None;
        check(code).map(|_| ())
    }

    /// What was written to memory; closes it.
    fn take_memory(&mut self) -> Vec<u8> {
        let Io::Memory = std::mem::replace(&mut self.io, Io::None) else {
            return Vec::new();
        };
        let mut bytes = ptr::null_mut();
        // SAFETY: opened by `avio_open_dyn_buf`, which gives its buffer away here; it is copied and freed.
        unsafe {
            let size = sys::avio_close_dyn_buf(self.raw().pb, &mut bytes);
            self.raw().pb = ptr::null_mut();
            let copy = std::slice::from_raw_parts(bytes, size as usize).to_vec();
            sys::av_free(bytes.cast());
            copy
        }
    }

    /// How long the interleaver may wait, and the delay that MPEG-TS declares; both in microseconds.
    pub fn limits(&mut self, interleave: i64, delay: Option<c_int>) {
        let raw = self.raw();
        raw.max_interleave_delta = interleave;
        // Deep y4m and spherical mp4 are everyday, but in no standard.
        raw.strict_std_compliance = sys::FF_COMPLIANCE_UNOFFICIAL;
        if let Some(delay) = delay {
            raw.max_delay = delay;
        }
    }

    pub fn set_metadata(&mut self, metadata: Dict) {
        let raw = self.raw();
        // SAFETY: frees the old dictionary, which is null or ours.
        unsafe { sys::av_dict_free(&mut raw.metadata) };
        raw.metadata = metadata.into_raw();
    }

    fn new_stream(&mut self) -> Result<&mut sys::AVStream> {
        // SAFETY: null (no memory) is checked; the stream lives as long as the context.
        unsafe {
            sys::avformat_new_stream(self.context, ptr::null())
                .as_mut()
                .ok_or(Error::Unknown)
        }
    }

    /// Adds the stream of an opened encoder.
    pub fn add_encoded(
        &mut self,
        encoder: &codec::encoder::Video,
        like: &StreamCopy,
        time_base: Rational,
    ) -> Result<usize> {
        let stream = self.new_stream()?;
        // SAFETY: both are live; parameters are copied.
        check(unsafe { sys::avcodec_parameters_from_context(stream.codecpar, encoder.as_ptr()) })?;
        stream.time_base = time_base.into();
        stream.avg_frame_rate = like.frame_rate.into();
        stream.r_frame_rate = like.raw_rate.into();
        // SAFETY: an opened encoder's field.
        stream.sample_aspect_ratio = unsafe { (*encoder.as_ptr()).sample_aspect_ratio };
        stream.disposition = like.disposition;
        stream.metadata = like.metadata.clone().into_raw();
        add_side_data(stream, &like.side_data)?;
        Ok(stream.index as usize)
    }

    /// Adds a copied stream.
    pub fn add_copy(&mut self, copy: &StreamCopy) -> Result<usize> {
        let stream = self.new_stream()?;
        // SAFETY: both parameters are live.
        unsafe {
            check(sys::avcodec_parameters_copy(
                stream.codecpar,
                copy.parameters.as_ptr(),
            ))?;
            (*stream.codecpar).codec_tag = 0;
        }
        stream.time_base = copy.time_base.into();
        stream.avg_frame_rate = copy.frame_rate.into();
        stream.r_frame_rate = copy.raw_rate.into();
        stream.sample_aspect_ratio = copy.sample_aspect.into();
        stream.disposition = copy.disposition;
        stream.metadata = copy.metadata.clone().into_raw();
        add_side_data(stream, &copy.side_data)?;
        Ok(stream.index as usize)
    }

    /// Adds a subtitle stream in the converter's codec.
    pub fn add_converted(&mut self, copy: &StreamCopy, to: &Subtitles) -> Result<usize> {
        let stream = self.new_stream()?;
        // SAFETY: the converter's encoder is open.
        check(unsafe { sys::avcodec_parameters_from_context(stream.codecpar, to.encoder) })?;
        stream.time_base = copy.time_base.into();
        stream.disposition = copy.disposition;
        stream.metadata = copy.metadata.clone().into_raw();
        Ok(stream.index as usize)
    }

    /// Adds a file attached to the container (Matroska): a font, or a cover picture.
    pub fn add_attachment(&mut self, copy: &StreamCopy, bytes: &[u8]) -> Result<usize> {
        let stream = self.new_stream()?;
        // SAFETY: the parameters are live and new.
        unsafe {
            let parameters = &mut *stream.codecpar;
            parameters.codec_type = sys::AVMediaType::AVMEDIA_TYPE_ATTACHMENT;
            parameters.codec_id = copy.raw().codec_id;
            set_extradata(parameters, bytes)?;
        }
        stream.metadata = copy.metadata.clone().into_raw();
        Ok(stream.index as usize)
    }

    /// Adds a chapter; `start` and `end` count ticks of `time_base`.
    pub fn add_chapter(&mut self, chapter: &Chapter) -> Result<()> {
        let raw = self.raw();
        // SAFETY: `chapters` and its count are kept by av_dynarray_add as libavformat keeps them, and freed with the
        // context.
        unsafe {
            let new: *mut sys::AVChapter =
                sys::av_mallocz(std::mem::size_of::<sys::AVChapter>()).cast();
            if new.is_null() {
                return Err(Error::Unknown);
            }
            (*new).id = chapter.id;
            (*new).time_base = chapter.time_base.into();
            (*new).start = chapter.start;
            (*new).end = chapter.end;
            (*new).metadata = chapter.metadata.clone().into_raw();
            let mut count = raw.nb_chapters as c_int;
            let list: *mut c_void = (&raw mut raw.chapters).cast();
            check(sys::av_dynarray_add_nofree(list, &mut count, new.cast()))?;
            raw.nb_chapters = count as u32;
        }
        Ok(())
    }

    /// Writes the header; gives the options that the muxer does not know.
    pub fn header(&mut self, options: Dict) -> Result<Vec<String>> {
        self.begin();
        let mut options = options;
        // SAFETY: the context is complete; FFmpeg takes known options out of the dictionary.
        check(unsafe { sys::avformat_write_header(self.context, &mut options.0) })?;
        Ok(options.keys())
    }

    /// The time base that the muxer chose for a stream; valid once the header is written.
    pub fn time_base(&self, stream: usize) -> Rational {
        // SAFETY: `stream` came from one of the `add_` functions.
        unsafe { (**(*self.context).streams.add(stream)).time_base.into() }
    }

    /// Hands a packet to the interleaver, which takes it over.
    pub fn write(&mut self, mut packet: Packet) -> Result<()> {
        use codec::packet::traits::Mut;
        self.begin();
        // SAFETY: both are live; the packet is left blank.
        check(unsafe { sys::av_interleaved_write_frame(self.context, packet.as_mut_ptr()) })
            .map(|_| ())
    }

    /// Writes a cover picture to its stream, past the interleaver: it has no time.
    pub fn write_picture(&mut self, stream: usize, copy: &StreamCopy) -> Result<()> {
        use codec::packet::traits::Mut;
        let Some(mut packet) = copy.picture.clone() else {
            return Ok(());
        };
        packet.set_stream(stream);
        packet.set_pts(Some(0));
        packet.set_dts(Some(0));
        packet.set_flags(codec::packet::Flags::KEY);
        // SAFETY: both are live.
        check(unsafe { sys::av_write_frame(self.context, packet.as_mut_ptr()) }).map(|_| ())
    }

    /// Bytes written so far; 0 where the muxer opens its files itself.
    pub fn bytes(&self) -> u64 {
        // SAFETY: `pb` is null or open.
        unsafe {
            let pb = (*self.context).pb;
            if pb.is_null() {
                return 0;
            }
            // As `avio_tell`, which is a macro of C.
            sys::avio_seek(pb, 0, sys::SEEK_CUR as c_int).max(0) as u64
        }
    }

    pub fn trailer(&mut self) -> Result<()> {
        self.begin();
        // SAFETY: called once, after the header.
        check(unsafe { sys::av_write_trailer(self.context) }).map(|_| ())
    }
}

impl Drop for Mux {
    fn drop(&mut self) {
        // An error here is that of an output which is given up anyway.
        let _ = self.close();
        // SAFETY: owned; frees the streams, the metadata and the muxer's own memory.
        unsafe { sys::avformat_free_context(self.context) };
    }
}

/// Whether the Matroska muxer adds an Opus stream's codec delay to its times, as the demuxer takes it off again. Old
/// versions do not, and each copy would play the sound some milliseconds earlier. Tried once, in memory.
pub fn matroska_adds_delay() -> bool {
    static ANSWER: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    // Without an answer, as newer versions do.
    *ANSWER.get_or_init(|| try_delay().unwrap_or(true))
}

/// Bytes of the packet in the trial: few enough for a block whose size takes one byte.
const TRIAL: [u8; 3] = [0xfc, 0xff, 0xfe];

fn try_delay() -> Option<bool> {
    let mut mux = Mux::new(Format::named("matroska")?, b"").ok()?;
    let stream = mux.new_stream().ok()?;
    // SAFETY: live parameters; a mono stream with a delay of 480 samples, 10 ms, and an OpusHead of that.
    unsafe {
        let parameters = &mut *stream.codecpar;
        parameters.codec_type = sys::AVMediaType::AVMEDIA_TYPE_AUDIO;
        parameters.codec_id = sys::AVCodecID::AV_CODEC_ID_OPUS;
        parameters.sample_rate = 48_000;
        parameters.initial_padding = 480;
        sys::av_channel_layout_default(&mut parameters.ch_layout, 1);
        let head = b"OpusHead\x01\x01\xe0\x01\x80\xbb\0\0\0\0\0";
        set_extradata(parameters, head).ok()?;
    }
    mux.open_memory().ok()?;
    mux.header(Dict::new()).ok()?;
    let mut packet = Packet::copy(&TRIAL);
    packet.set_pts(Some(0));
    packet.set_dts(Some(0));
    packet.set_duration(20);
    packet.set_flags(codec::packet::Flags::KEY);
    mux.write(packet).ok()?;
    mux.trailer().ok()?;
    let bytes = mux.take_memory();
    // A block of track 1 and `TRIAL`: size, track, time, flags.
    let size = 0x80 | (4 + TRIAL.len()) as u8;
    let block = bytes
        .windows(4 + 1)
        .find(|w| w[0] == size && w[1] == 0x81)?;
    Some(i16::from_be_bytes([block[2], block[3]]) == 10)
}

/// Sets codec parameters' extra bytes.
///
/// # Safety
/// `parameters` is live and has none yet.
unsafe fn set_extradata(parameters: &mut sys::AVCodecParameters, bytes: &[u8]) -> Result<()> {
    // SAFETY: room for `bytes` and the zeroed padding that FFmpeg demands; owned by the parameters from here.
    unsafe {
        let padded = bytes.len() + sys::AV_INPUT_BUFFER_PADDING_SIZE as usize;
        let data: *mut u8 = sys::av_mallocz(padded).cast();
        if data.is_null() {
            return Err(Error::Unknown);
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        parameters.extradata = data;
        parameters.extradata_size = bytes.len() as c_int;
    }
    Ok(())
}

/// Has a packet tell its muxer how its stream is set up; whether there was memory for that.
pub fn tell_extradata(packet: &mut Packet, bytes: &[u8]) -> bool {
    use codec::packet::traits::Mut;
    let kind = sys::AVPacketSideDataType::AV_PKT_DATA_NEW_EXTRADATA;
    // SAFETY: the packet is live and owns what is allocated for it here, which is as long as what is copied.
    unsafe {
        let to = sys::av_packet_new_side_data(packet.as_mut_ptr(), kind, bytes.len());
        if to.is_null() {
            return false;
        }
        ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
    }
    true
}

fn add_side_data(
    stream: &mut sys::AVStream,
    side_data: &[(sys::AVPacketSideDataType, Vec<u8>)],
) -> Result<()> {
    for (kind, bytes) in side_data {
        // SAFETY: FFmpeg allocates `len` bytes on the stream, which are filled at once.
        unsafe {
            let data = sys::av_stream_new_side_data(stream, *kind, bytes.len());
            if data.is_null() {
                return Err(Error::Unknown);
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), data, bytes.len());
        }
    }
    Ok(())
}

/// A chapter with its metadata.
#[derive(Clone)]
pub struct Chapter {
    id: i64,
    pub time_base: Rational,
    pub start: i64,
    pub end: i64,
    metadata: Dict,
}

/// The chapters of an input.
pub fn chapters(input: &ffmpeg_next::format::context::Input) -> Vec<Chapter> {
    // SAFETY: `nb_chapters` live chapters; every field is copied.
    unsafe {
        let raw = &*input.as_ptr();
        (0..raw.nb_chapters as usize)
            .map(|i| {
                let chapter = &**raw.chapters.add(i);
                Chapter {
                    id: chapter.id,
                    time_base: chapter.time_base.into(),
                    start: chapter.start,
                    end: chapter.end,
                    metadata: Dict::copy_of(chapter.metadata),
                }
            })
            .collect()
    }
}

/// An input's global metadata.
pub fn metadata(input: &ffmpeg_next::format::context::Input) -> Dict {
    // SAFETY: a live context.
    Dict::copy_of(unsafe { (*input.as_ptr()).metadata })
}

/// The name by which an input was opened, as bytes.
pub fn url(input: &ffmpeg_next::format::context::Input) -> Vec<u8> {
    // SAFETY: a live context; `url` is a C string or null.
    unsafe {
        let url = (*input.as_ptr()).url;
        if url.is_null() {
            Vec::new()
        } else {
            CStr::from_ptr(url).to_bytes().to_vec()
        }
    }
}

// -- encoders --

/// Everything that an encoder is told before it is opened, beside its options.
#[derive(Clone, Debug)]
pub struct Settings {
    pub width: u32,
    pub height: u32,
    pub pixel: Pixel,
    pub time_base: Rational,
    pub frame_rate: Rational,
    pub sample_aspect: Rational,
    pub tags: Tags,
    /// Two fields a frame, top field first or not.
    pub fields: Option<bool>,
    /// The encoder codes fields as fields.
    pub code_fields: bool,
    pub global_header: bool,
    pub threads: usize,
    /// Frames leave in the order in which they came.
    pub no_reordering: bool,
    /// Constant quantiser, in the units of `-q`.
    pub scale: Option<f64>,
    /// Four characters by which the container shall name the codec.
    pub tag: Option<[u8; 4]>,
    /// Bits of a sample, where the pixel format has room for more.
    pub depth: u8,
}

/// What a decoder must know to show the colours as meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tags {
    pub range: color::Range,
    pub space: color::Space,
    pub primaries: color::Primaries,
    pub transfer: color::TransferCharacteristic,
    pub location: ffmpeg_next::chroma::Location,
}

/// Opens an encoder; gives it with the names of the options that it does not know.
pub fn open_encoder(
    codec: ffmpeg_next::Codec,
    settings: &Settings,
    options: Dict,
) -> Result<(codec::encoder::Video, Vec<String>)> {
    let mut context = codec::context::Context::new_with_codec(codec);
    // SAFETY: freshly allocated and not yet open.
    apply(unsafe { &mut *context.as_mut_ptr() }, settings);
    let mut encoder = context.encoder().video()?;
    let mut options = options;
    // SAFETY: the codec is the one that the context was allocated for; known options leave the dictionary.
    check(unsafe { sys::avcodec_open2(encoder.as_mut_ptr(), codec.as_ptr(), &mut options.0) })?;
    Ok((codec::encoder::video::Encoder(encoder), options.keys()))
}

/// The headers that an encoder puts in front of all, once.
pub fn headers(encoder: &codec::encoder::Video) -> Vec<u8> {
    // SAFETY: an opened encoder's field, of as many readable bytes as it says; copied at once.
    unsafe {
        let raw = &*encoder.as_ptr();
        extra_of(raw.extradata, raw.extradata_size)
    }
}

/// The same of a stream that was read.
pub fn headers_of(stream: &ffmpeg_next::format::stream::Stream) -> Vec<u8> {
    // SAFETY: a live stream's parameters are never null; as above.
    unsafe {
        let raw = &*(*stream.as_ptr()).codecpar;
        extra_of(raw.extradata, raw.extradata_size)
    }
}

/// # Safety
/// `data` is null or has `size` readable bytes.
unsafe fn extra_of(data: *const u8, size: c_int) -> Vec<u8> {
    if data.is_null() {
        return Vec::new();
    }
    // SAFETY: as the caller promises.
    unsafe { std::slice::from_raw_parts(data, size.max(0) as usize) }.to_vec()
}

/// What an encoder encodes to.
pub fn codec_of(encoder: &codec::encoder::Video) -> codec::Id {
    // SAFETY: an opened encoder's field.
    unsafe { (*encoder.as_ptr()).codec_id }.into()
}

/// How many frames an encoder may hold back to put them in another order.
pub fn delay(encoder: &codec::encoder::Video) -> usize {
    // SAFETY: an opened encoder's field.
    unsafe { (*encoder.as_ptr()).has_b_frames.max(0) as usize }
}

fn apply(raw: &mut sys::AVCodecContext, s: &Settings) {
    raw.width = s.width as c_int;
    raw.height = s.height as c_int;
    raw.pix_fmt = s.pixel.into();
    raw.time_base = s.time_base.into();
    raw.framerate = s.frame_rate.into();
    raw.sample_aspect_ratio = s.sample_aspect.into();
    raw.color_range = s.tags.range.into();
    raw.colorspace = s.tags.space.into();
    raw.color_primaries = s.tags.primaries.into();
    raw.color_trc = s.tags.transfer.into();
    raw.chroma_sample_location = s.tags.location.into();
    raw.bits_per_raw_sample = c_int::from(s.depth);
    raw.thread_count = s.threads as c_int;
    // A picture holds both fields, their rows in turn: for muxers that is TB or BT (9 and 14 in Matroska and
    // QuickTime). Only Motion JPEG stores field after field, TT or BB.
    let apart = raw.codec_id == sys::AVCodecID::AV_CODEC_ID_MJPEG;
    raw.field_order = match (s.fields, apart) {
        (None, _) => sys::AVFieldOrder::AV_FIELD_PROGRESSIVE,
        (Some(true), true) => sys::AVFieldOrder::AV_FIELD_TT,
        (Some(false), true) => sys::AVFieldOrder::AV_FIELD_BB,
        (Some(true), false) => sys::AVFieldOrder::AV_FIELD_TB,
        (Some(false), false) => sys::AVFieldOrder::AV_FIELD_BT,
    };
    if s.fields.is_some() && s.code_fields {
        raw.flags |=
            (sys::AV_CODEC_FLAG_INTERLACED_DCT | sys::AV_CODEC_FLAG_INTERLACED_ME) as c_int;
    }
    if s.global_header {
        raw.flags |= sys::AV_CODEC_FLAG_GLOBAL_HEADER as c_int;
    }
    if s.no_reordering {
        raw.max_b_frames = 0;
    }
    if let Some(scale) = s.scale {
        raw.flags |= sys::AV_CODEC_FLAG_QSCALE as c_int;
        raw.global_quality = (scale * f64::from(sys::FF_QP2LAMBDA)).round() as c_int;
    }
    if let Some(tag) = s.tag {
        raw.codec_tag = u32::from_le_bytes(tag);
    }
}

/// Whether an encoder has a private option of this name.
pub fn encoder_knows(codec: &ffmpeg_next::Codec, option: &str) -> bool {
    let option = c_string(option);
    // SAFETY: with FAKE_OBJ the object is only a pointer to a class, here the codec's static one.
    unsafe {
        let mut class = (*codec.as_ptr()).priv_class;
        !class.is_null()
            && !sys::av_opt_find(
                (&raw mut class).cast(),
                option.as_ptr(),
                ptr::null(),
                0,
                sys::AV_OPT_SEARCH_FAKE_OBJ,
            )
            .is_null()
    }
}

/// A pixel format by its name.
pub fn pixel_named(name: &str) -> Option<Pixel> {
    let name = c_string(name);
    // SAFETY: looks a name up in a static table.
    let pixel = unsafe { sys::av_get_pix_fmt(name.as_ptr()) };
    (pixel != sys::AVPixelFormat::AV_PIX_FMT_NONE).then(|| pixel.into())
}

/// Bits of a sample of a picture in colour; `None` for grey, palettes and memory of graphics cards.
pub fn depth(pixel: Pixel) -> Option<u8> {
    // SAFETY: static descriptors, null for no format.
    let d = unsafe { sys::av_pix_fmt_desc_get(pixel.into()).as_ref() }?;
    let hardware = d.flags & sys::AV_PIX_FMT_FLAG_HWACCEL as u64 != 0;
    (!hardware && d.nb_components >= 3).then_some(d.comp[0].depth as u8)
}

/// A second header for the same buffers: `frame` itself is not touched.
pub fn reference(frame: &Video) -> Result<Video> {
    let mut reference = Video::empty();
    // SAFETY: `reference` is blank; the buffers are counted references, so nothing that is shared is written to.
    check(unsafe { sys::av_frame_ref(reference.as_mut_ptr(), frame.as_ptr()) })?;
    Ok(reference)
}

/// Takes from a frame of ours what its encoder would misread: how it was coded before.
pub fn dress(frame: &mut Video) {
    // SAFETY: the header of a live frame that nobody else holds.
    unsafe {
        let raw = &mut *frame.as_mut_ptr();
        // Left as decoded, this would force the source's own frame types on the encoder.
        raw.pict_type = sys::AVPictureType::AV_PICTURE_TYPE_NONE;
        raw.quality = 0;
        // The settings of Dolby Vision belong to the old colours.
        for kind in DOLBY {
            sys::av_frame_remove_side_data(raw, kind);
        }
    }
}

const DOLBY: [sys::AVFrameSideDataType; 2] = [
    sys::AVFrameSideDataType::AV_FRAME_DATA_DOVI_RPU_BUFFER,
    sys::AVFrameSideDataType::AV_FRAME_DATA_DOVI_METADATA,
];

/// Whether a frame carries closed captions.
pub fn has_captions(frame: &Video) -> bool {
    frame
        .side_data(ffmpeg_next::frame::side_data::Type::A53CC)
        .is_some()
}

/// What a frame says of the light of the display on which it was graded, as stream side data.
pub fn light(frame: &Video) -> Vec<(codec::packet::side_data::Type, Vec<u8>)> {
    use codec::packet::side_data::Type as Stream;
    use ffmpeg_next::frame::side_data::Type as Of;
    [
        (
            Of::MasteringDisplayMetadata,
            Stream::MasteringDisplayMetadata,
        ),
        (Of::ContentLightLevel, Stream::ContentLightLevel),
    ]
    .into_iter()
    .filter_map(|(of, stream)| Some((stream, frame.side_data(of)?.data().to_vec())))
    .collect()
}

// -- conversions --

/// Decodes text subtitles and writes them in another codec.
pub struct Subtitles {
    decoder: *mut sys::AVCodecContext,
    encoder: *mut sys::AVCodecContext,
    buffer: Vec<u8>,
}

// SAFETY: both contexts have one owner.
unsafe impl Send for Subtitles {}

/// Room for one subtitle event; the `ffmpeg` program reserves as much.
const SUBTITLE_BYTES: usize = 1 << 20;

impl Subtitles {
    /// From the codec of `copy` to `to`.
    pub fn new(copy: &StreamCopy, to: codec::Id) -> Result<Self> {
        let mut this = Self {
            decoder: ptr::null_mut(),
            encoder: ptr::null_mut(),
            buffer: vec![0; SUBTITLE_BYTES],
        };
        // SAFETY: each context is allocated for its codec and opened once; on an error Drop frees what there is.
        unsafe {
            let decoder = sys::avcodec_find_decoder(copy.raw().codec_id);
            let encoder = sys::avcodec_find_encoder(to.into());
            if decoder.is_null() || encoder.is_null() {
                return Err(Error::EncoderNotFound);
            }
            this.decoder = sys::avcodec_alloc_context3(decoder);
            this.encoder = sys::avcodec_alloc_context3(encoder);
            if this.decoder.is_null() || this.encoder.is_null() {
                return Err(Error::Unknown);
            }
            check(sys::avcodec_parameters_to_context(
                this.decoder,
                copy.parameters.as_ptr(),
            ))?;
            (*this.decoder).pkt_timebase = copy.time_base.into();
            check(sys::avcodec_open2(this.decoder, decoder, ptr::null_mut()))?;
            (*this.encoder).time_base = copy.time_base.into();
            this.share_header()?;
            check(sys::avcodec_open2(this.encoder, encoder, ptr::null_mut()))?;
        }
        Ok(this)
    }

    /// The decoder's styles, which text encoders start from.
    ///
    /// # Safety
    /// Both contexts are live, and the encoder has no header yet.
    unsafe fn share_header(&mut self) -> Result<()> {
        // SAFETY: the header has `size` bytes; the copy has a NUL behind it, as encoders read it as a string.
        unsafe {
            let size = (*self.decoder).subtitle_header_size;
            let header = (*self.decoder).subtitle_header;
            if header.is_null() || size <= 0 {
                return Ok(());
            }
            let copy: *mut u8 = sys::av_mallocz(size as usize + 1).cast();
            if copy.is_null() {
                return Err(Error::Unknown);
            }
            ptr::copy_nonoverlapping(header, copy, size as usize);
            (*self.encoder).subtitle_header = copy;
            (*self.encoder).subtitle_header_size = size;
        }
        Ok(())
    }

    /// The codec that it writes.
    pub fn codec(&self) -> codec::Id {
        // SAFETY: the encoder is open.
        unsafe { (*self.encoder).codec_id.into() }
    }

    /// The same event in the other codec, at the same time; `None` for an empty one.
    pub fn convert(&mut self, packet: &Packet) -> Result<Option<Packet>> {
        use codec::packet::traits::Ref;
        // SAFETY: an all-zero AVSubtitle is what the decoder expects to fill.
        let mut event: sys::AVSubtitle = unsafe { std::mem::zeroed() };
        let mut got = 0;
        // SAFETY: open decoder, live packet; older FFmpeg wants a mutable pointer but does not write.
        check(unsafe {
            sys::avcodec_decode_subtitle2(
                self.decoder,
                &mut event,
                &mut got,
                packet.as_ptr() as *mut _,
            )
        })?;
        if got == 0 {
            return Ok(None);
        }
        let converted = self.encode(&mut event, packet);
        // SAFETY: filled by the decoder; freed once.
        unsafe { sys::avsubtitle_free(&mut event) };
        converted
    }

    fn encode(&mut self, event: &mut sys::AVSubtitle, packet: &Packet) -> Result<Option<Packet>> {
        if event.num_rects == 0 {
            return Ok(None);
        }
        // The packet says when: text events begin where their packet does.
        event.start_display_time = 0;
        // SAFETY: open encoder; `buffer` has room for the size that is told.
        let size = check(unsafe {
            sys::avcodec_encode_subtitle(
                self.encoder,
                self.buffer.as_mut_ptr(),
                self.buffer.len() as c_int,
                event,
            )
        })?;
        let mut converted = Packet::copy(&self.buffer[..size as usize]);
        converted.set_pts(packet.pts());
        converted.set_dts(packet.dts());
        converted.set_duration(packet.duration());
        converted.set_flags(packet.flags());
        Ok(Some(converted))
    }
}

impl Drop for Subtitles {
    fn drop(&mut self) {
        // SAFETY: owned; freeing null is allowed.
        unsafe {
            sys::avcodec_free_context(&mut self.decoder);
            sys::avcodec_free_context(&mut self.encoder);
        }
    }
}
